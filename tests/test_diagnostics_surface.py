"""Figures of the text of forced responses, against their definitions."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from stratagem.inference.diagnosis import Subject
from stratagem.inference.diagnosis.diagnostics.surface import surface
from stratagem.inference.diagnosis.diagnostics.texts import (
    distinct,
    edit_distance,
    one_replacement,
    repetition,
)
from stratagem.inference.evaluation.statistics import ratio_se
from stratagem.models import Batch, Categorical, Generation, Normal
from torch import Tensor, nn

from .finite_law_fixtures import WORDS, Laws, Program, Site, subject_of

TABLE = {
    "a strategy": ("abcabcab", "dddeeeff"),
    "a mark": ("axbxcxdx".replace("x", "k"), "axbxcxdx".replace("x", "l")),
    "nothing": ("abcdefgh", "abcdefgh"),
}
"""Words of two values, whatever the prompt."""


def written(words: Sequence[str]) -> Tensor:
    return torch.tensor([[WORDS.index(word) for word in row] for row in words])


def program(words: Sequence[str], own: float = 1.0, latent: str = "z") -> Program:
    """Each word is that of the value with probability ``own``, else any."""
    table = written(words)

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        place = z["z"] if latent == "z" else (z["v"][..., 0] > 0).long()
        chosen = nn.functional.one_hot(table[place], len(WORDS))
        law = own * chosen + (1 - own) / len(WORDS)
        law = law.expand(*place.shape[:-1], len(batch), *law.shape[-2:])
        return program.tokens(law)[None], torch.zeros(1, *law.shape[:-2])

    site = Site(Categorical(len(words))) if latent == "z" else Site(Normal(1))
    return Program({latent: site}, speak)


def figures_of(subject: Subject) -> dict[str, float]:
    return {name.removeprefix("intervention/"): value for name, value in surface(subject).figures.items()}


def by_table(one: Sequence[int], other: Sequence[int]) -> float:
    """The edit distance of two, cell by cell."""
    table = np.zeros((len(one) + 1, len(other) + 1))
    for i in range(len(one) + 1):
        for j in range(len(other) + 1):
            ways = [table[i - 1, j] + 1] if i else []
            ways += [table[i, j - 1] + 1] if j else []
            ways += [table[i - 1, j - 1] + (one[i - 1] != other[j - 1])] if i and j else []
            table[i, j] = min(ways, default=0)
    return float(table[-1, -1]) / max(len(one), len(other), 1)


def test_the_edit_distance_is_that_of_the_table_cell_by_cell() -> None:
    rng = random.Random(0)
    one, other = (
        [[rng.randrange(3) for _ in range(rng.randrange(most))] for _ in range(200)] for most in (8, 6)
    )
    assert {len(row) for row in one} == set(range(8))
    np.testing.assert_allclose(edit_distance(one, other), list(map(by_table, one, other)))
    assert edit_distance([[]], [[]]) == [0]
    assert edit_distance([[]], [[1, 2]]) == [1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a;b;c", "a|b|c", True),
        ("a;b|c", "a|b|c", True),
        ("a|b|c", "a;b|c", True),
        ("a;b;c;a|b", "a|b;c|a|b", False),
        ("a;b;c", "a|b/c", False),
        ("a;b", "a;b", False),
        ("a;b", "a|b|", False),
        ("ab", "ba", False),
        ("", "", False),
    ],
)
def test_one_replacement_is_of_one_token_wherever_it_stands(one: str, other: str, same: bool) -> None:
    assert one_replacement(list(map(ord, one)), list(map(ord, other))) == same
    assert one_replacement(list(map(ord, other)), list(map(ord, one))) == same


def test_variety_by_hand() -> None:
    rows = [[1, 2, 1, 2], [1, 2, 3]]
    assert distinct(rows, 1)[0] == 3 / 7
    assert distinct(rows, 2)[0] == 3 / 5
    assert distinct([[1], []], 2) is None
    assert repetition([1, 2, 3]) == 0
    assert repetition([1, 2, 1, 2, 1, 2], 2) == 3 / 5
    assert repetition([1] * 8) == 4 / 5


def test_the_error_of_the_variety_leaves_out_one_response_after_the_other() -> None:
    rng = random.Random(0)
    rows = [[rng.randrange(30) for _ in range(rng.randrange(6))] for _ in range(24)] + [[30, 31, 30, 31]]
    without = np.array([distinct(rows[:n] + rows[n + 1 :], 2)[0] for n in range(25)])
    assert distinct(rows, 2)[1] == pytest.approx(math.sqrt(24 * without.var()))


def test_strategies_differ_in_more_than_a_token_and_marks_do_not() -> None:
    """In the likeliest responses, whatever else may be drawn."""
    strategy, mark, nothing = (figures_of(subject_of(program(words, own=0.7))) for words in TABLE.values())
    expected = by_table(*written(TABLE["a strategy"]).tolist())
    assert strategy["edit_share"] == pytest.approx(expected)
    assert strategy["substitution_share"] == 0
    assert mark["edit_share"] == pytest.approx(0.5)
    assert mark["substitution_share"] == 1
    assert nothing["edit_share"] == 0
    assert "substitution_share" not in nothing


def test_shares_are_over_the_pairs_in_use() -> None:
    """Of three values two are told apart by a mark; a fourth is never chosen."""
    words = ["axbxcxdx".replace("x", mark) for mark in "kkl"] + ["eeeeffff"]

    def route(_: Program, batch: Batch, __: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor([0.0, 0.0, 0.0, -9.0]).expand(len(batch), -1)

    subject = subject_of(Program({"z": Site(Categorical(4), route)}, program(words).speak))
    found = figures_of(subject)
    assert found["edit_share"] == pytest.approx(0.5 * 2 / 3)
    assert found["substitution_share"] == 1, "over the pairs that differ"
    assert "length/3" in found


def test_each_value_is_described_and_the_base_beside_them() -> None:
    """Lengths, perplexity under p0 and repetition of given texts, by the definitions."""
    subject = subject_of(program(TABLE["a strategy"], own=0.7), num=20)
    texts = [["a b c a b c a b c"] * 20, ["d d d d d d", *["d d d e e e f f"] * 19]]
    subject.__dict__["forced"] = [
        [Generation(p, {"z": k}, 0.5, text) for p, text in zip(subject.data.prompts, row, strict=True)]
        for k, row in enumerate(texts)
    ]
    found = figures_of(subject)
    assert found["length/0"] == 9, "a tenth token, the end, does not fit"
    assert found["length/1"] == pytest.approx((19 * 9 + 7) / 20)
    assert found["length/1_se"] == pytest.approx(np.std([7] + [9] * 19, ddof=1) / math.sqrt(20))
    assert found["repetition/0"] == pytest.approx(3 / 6)
    assert found["repetition/1"] == pytest.approx(2 / 3 / 20)
    assert found["distinct_1/0"] == pytest.approx(3 / 180)
    assert found["distinct_2/1"] == pytest.approx(5 / (19 * 7 + 5))
    seen = subject.seen
    assert found["perplexity_base"] == pytest.approx(
        math.exp(-float(seen.log_base.sum() / seen.lengths.sum()))
    )
    error = ratio_se(seen.log_base, seen.lengths)[1]
    assert found["perplexity_base_se"] == pytest.approx(found["perplexity_base"] * error)
    assert found["length_base"] == pytest.approx(float(seen.lengths.double().mean()))


def test_what_the_base_would_say_has_its_perplexity() -> None:
    """Of a word in two: with probability a half that of either value."""
    found = figures_of(subject_of(program(("aaaaaaaa", "bbbbbbbb"))))
    for suffix in ("/0", "/1", "_base"):
        assert found[f"perplexity{suffix}"] == pytest.approx(2 ** (1 / 9), rel=1e-5)
        assert found[f"length{suffix}"] == 9


def test_a_continuous_latent_is_described_at_its_centres_and_a_mixed_one_not() -> None:
    continuous = program(TABLE["a strategy"], latent="v")
    found = figures_of(subject_of(continuous, num=30))
    assert 0 < found["edit_share"] <= by_table(*written(TABLE["a strategy"]).tolist()) + 1e-9
    assert "length/1" in found
    sites = {**continuous.sites, "z": Site(Categorical(2))}
    assert not figures_of(subject_of(Program(sites, continuous.speak), num=30))
