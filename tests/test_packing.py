"""Packed rows are read as the examples one by one would be."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stratagem.inference.packing import pack
from stratagem.models import Backbone, Example, LanguageModel, collate, encode_prompt
from stratagem.models.backbone import BASE, new_backbone
from stratagem.models.text import encode
from stratagem.tasks import Addition

LENGTH = 40


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return new_backbone(Addition().vocabulary, 16, 2, 2, LENGTH)


def examples(backbone: Backbone) -> list[Example]:
    stream = Addition().stream("train", 0)
    return [encode(backbone, t.prompt, t.response) for t in itertools.islice(stream, 12)]


def test_losses_of_packed_rows_are_those_of_the_examples_alone(backbone: Backbone) -> None:
    drawn = examples(backbone)
    packed = next(pack(drawn, 2, LENGTH, backbone.pad_id))
    assert packed.size > 2
    logits = backbone.lm(
        input_ids=packed.ids, attention_mask=packed.attention(), position_ids=packed.position, use_cache=False
    ).logits
    log_p = logits[:, :-1].log_softmax(-1).gather(-1, packed.ids[:, 1:, None])[..., 0]
    found = [
        float((log_p[r] * packed.target[r, 1:] * (packed.segment[r, 1:] == n)).sum())
        for r in range(2)
        for n in range(1, int(packed.segment[r].max()) + 1)
    ]
    batch = collate(drawn[: packed.size], backbone.pad_id)
    assert batch.response is not None
    law = LanguageModel(backbone, encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask))
    assert sorted(found) == pytest.approx(sorted(law.log_prob(batch.response).tolist()), abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=60), st.integers(1, 4))
def test_every_example_comes_once_and_in_one_piece(lengths: list[tuple[int, int]], rows: int) -> None:
    draw = random.Random(0)
    drawn = [
        Example(*(tuple(draw.randrange(1, 99) for _ in range(size)) for size in pair)) for pair in lengths
    ]
    seen: list[Example] = []
    for packed in pack(drawn, rows, 20, 0):
        part = []
        for r, n in itertools.product(range(rows), range(1, 21)):
            inside = packed.segment[r] == n
            if inside.any():
                ids, target = packed.ids[r][inside], packed.target[r][inside]
                assert packed.position[r][inside].tolist() == list(range(len(ids)))
                part.append(Example(tuple(ids[~target].tolist()), tuple(ids[target].tolist())))
        assert packed.size == len(part)
        assert not packed.target[packed.segment == 0].any()
        seen += part
    assert sorted(seen, key=str) == sorted(drawn, key=str)


def test_an_example_longer_than_a_row_is_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"of \d+ tokens does not fit into rows of 10; enlarge context"):
        next(pack(examples(backbone), 2, 10, backbone.pad_id))
