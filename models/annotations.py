"""Annotations: a label for each token of a response, semantic roles say, that encoder and decoder are given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from .backbone import Backbone
from .batch import Example

NONE = ("", "O", "_")
"""Labels that say that a word has none."""


def annotation_ids(names: Sequence[str], given: Sequence[str]) -> list[int]:
    """Numbers of labels, from 1 in the order of ``names``, and 0 for none.

    Raises:
        ValueError: a label that is not among the names.
    """
    numbers = dict.fromkeys(NONE, 0) | {name: number for number, name in enumerate(names, 1)}
    unknown = sorted(set(given) - set(numbers))
    if unknown:
        raise ValueError(
            f"annotation {unknown[0]!r} is none of {', '.join(names) or 'no names'}; a fit names "
            "its labels in data.annotations, with model=annotated, and O is for a word without"
        )
    return [numbers[label] for label in given]


def annotate(
    backbone: Backbone, example: Example, response: str, given: Sequence[str], names: Sequence[str]
) -> Example:
    """An example with a label for each token of its response: that of the word in which the token ends.

    Args:
        backbone: the LM, of whose tokens the response is made.
        example: as :func:`.encode` gives it.
        response: its text.
        given: a label for each word of it, words being what blanks separate.
        names: the labels that there are.

    Raises:
        ValueError: an unknown label, another number of labels than of words, or a tokenizer that does not say which
            characters a token stands for.
    """
    ids = annotation_ids(names, given)
    words = [match.span() for match in re.finditer(r"\S+", response)]
    if len(words) != len(ids):
        raise ValueError(
            f"{len(ids)} annotations for the {len(words)} words of {response!r}; expected one for each word"
        )
    if not backbone.tokenizer.is_fast:
        raise ValueError(
            f"annotations: the tokenizer of {backbone.name} does not say where a token stands in the text; use an LM "
            "with a fast tokenizer"
        )
    spans = backbone.tokenizer(
        response, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )["offset_mapping"]
    label = [0] * len(response)
    for number, (start, end) in zip(ids, words, strict=True):
        label[start:end] = [number] * (end - start)
    labels = [label[end - 1] if end > start else 0 for start, end in spans]
    labels += [0] * (len(example.response) - len(labels))
    return replace(example, annotations=tuple(labels[: len(example.response)]))
