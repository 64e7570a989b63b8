"""Between text and token ids."""

from __future__ import annotations

from collections.abc import Iterable

from .backbone import Backbone
from .batch import Example


def encode(backbone: Backbone, prompt: str, response: str | None = None) -> Example:
    """Token ids of a prompt, with the special tokens its tokenizer begins a text with, and of a response with its end.

    The prompt ``""`` is the begin token alone: a response to it is a text from its beginning on. A response is split as
    the text after its prompt where that leaves the prompt's own tokens as they are, and by itself elsewhere. It ends
    with the first end token that it has, or else with the tokenizer's.

    Raises:
        ValueError: a blank prompt, or ``""`` where the tokenizer has no begin token; a response without any token.
    """
    tokenizer = backbone.tokenizer
    if not prompt and backbone.bos_id == -1:
        raise ValueError(
            "empty prompt: the tokenizer has no begin token that a text could start from; give a prompt"
        )
    ids = _from_the_beginning(backbone, prompt) if prompt else (backbone.bos_id,)
    if prompt.isspace() or not ids:
        raise ValueError(
            'empty prompt: expected at least one token of text to condition on, or "" for a text from its beginning'
        )
    if response is None:
        return Example(ids)
    if not response.strip():
        raise ValueError(
            f"empty response to the prompt {shorten(prompt)!r}: expected at least one token of text"
        )
    whole = _from_the_beginning(backbone, prompt + response)
    if prompt and len(whole) > len(ids) and whole[: len(ids)] == ids:
        answer = whole[len(ids) :]
    else:
        answer = tuple(tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"])
    answer = trim(backbone, answer)
    ended = answer[-1:] and answer[-1] in backbone.eos_ids
    return Example(ids, answer if ended else (*answer, tokenizer.eos_token_id))


def _from_the_beginning(backbone: Backbone, text: str) -> tuple[int, ...]:
    """Token ids of a text with what its tokenizer begins one with, once, and without an end that it does not have."""
    tokenizer = backbone.tokenizer
    ids = tuple(tokenizer(text, verbose=False)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    doubled = len(ids) > 1 and ids[0] == ids[1] == backbone.bos_id  # by a chat template, which writes it out
    return ids[1:] if doubled else ids


def decode(backbone: Backbone, ids: Iterable[int]) -> str:
    """Text of token ids, up to the first end token, without special tokens."""
    ends = backbone.eos_ids
    kept: list[int] = []
    for token in ids:
        if token in ends:
            break
        kept.append(int(token))
    return backbone.tokenizer.decode(kept, skip_special_tokens=True)


def trim(backbone: Backbone, ids: Iterable[int]) -> tuple[int, ...]:
    """Token ids up to and including the first end token."""
    ends = backbone.eos_ids
    kept: list[int] = []
    for token in ids:
        kept.append(int(token))
        if token in ends:
            break
    return tuple(kept)


def shorten(text: str, width: int = 60) -> str:
    """The head of a text, for messages."""
    return text if len(text) <= width else text[: width - 1] + "…"


def check_length(backbone: Backbone, example: Example, reserve: int = 0) -> None:
    """Refuse an example longer than the context, ``reserve`` tokens being kept for what is sampled.

    Raises:
        ValueError: too long.
    """
    length = len(example.prompt) + len(example.response) + reserve
    if length > backbone.context:
        raise ValueError(
            f"{len(example.prompt)} prompt tokens and {len(example.response) + reserve} response tokens exceed the "
            f"context of {backbone.context} tokens of {backbone.name}; shorten them, set data.truncate=true or "
            "lower max_new_tokens"
        )
