"""Accuracy, with z from the router and under each forced z, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from stratagem.inference.evaluation.skill import OfBase, skill

from .meaning_fixtures import TASK, TELLING, certain, traces


def test_skill_by_hand() -> None:
    prompts = TELLING[:4]
    right, wrong = traces((0,), prompts)[0], ["0 0 0"] * 4
    forced = [right, wrong, right[:2] + wrong[:2]]
    usage = [0.6, 0.001, 0.399]
    found = skill(TASK, prompts, [right[:3] + wrong[:1]], [OfBase(right)], [[row] for row in forced], usage)
    assert found["skill/accuracy"] == 0.75
    assert found["skill/accuracy_se"] == pytest.approx(0.25)
    assert found["skill/accuracy_base"] == 1
    assert [found[f"skill/accuracy_forced/{k}"] for k in range(3)] == [1, 0, 0.5]
    assert found["skill/accuracy_forced_min"] == 0.5, "a strategy that is not in use has no say"


def test_of_several_draws_each_prompt_counts_once() -> None:
    """Shares of right answers 1, 1, 1/2, 0 of ours and 1, 1/2, 1/2, 0 under z, of the base 1: errors over prompts."""
    prompts = TELLING[:4]
    right, wrong = traces((0,), prompts)[0], ["0 0 0"] * 4
    ours = [right[:3] + wrong[:1], right[:2] + wrong[:2]]
    under = [right[:3] + wrong[:1], right[:1] + wrong[:3]]
    found = skill(TASK, prompts, ours, [OfBase(right)] * 2, [under], [1.0])
    assert found["skill/accuracy"] == pytest.approx(5 / 8)
    assert found["skill/accuracy_se"] == pytest.approx(np.std([1, 1, 0.5, 0], ddof=1) / 2)
    assert found["skill/accuracy_base_se"] == 0
    assert found["skill/accuracy_forced_gap"] == pytest.approx(1 / 2)
    assert found["skill/accuracy_forced_gap_se"] == pytest.approx(np.std([0, 0.5, 0.5, 1], ddof=1) / 2)


def test_the_base_s_own_part_of_a_gap() -> None:
    """A base that is wrong under one of two values alone: that value, held to the base, is as wrong as it has to be."""
    prompts = TELLING[:100]
    right, wrong = traces((0,), prompts)[0], ["0 0 0"] * 100
    base = OfBase(wrong[:10] + right[10:], certain([1] * 20 + [0] * 80, 2))
    forced = [[right], [wrong[:50] + right[50:]]]
    found = skill(TASK, prompts, [right], [base], forced, [0.8, 0.2])
    assert found["skill/accuracy_forced_gap"] == pytest.approx(0.9 - 0.5)
    assert found["skill/accuracy_forced_gap_of_base"] == pytest.approx(0.9 - 0.5, abs=1e-6)
    influence = np.repeat([0 + 0.5 / 0.2, 1 - 0.5 / 0.2, 1], [10, 10, 80])
    assert found["skill/accuracy_forced_gap_of_base_se"] == pytest.approx(
        np.std(influence, ddof=1) / 10, rel=1e-5
    )
    unknown = skill(TASK, prompts, [right], [OfBase(base.texts)], forced, [0.8, 0.2])
    assert "skill/accuracy_forced_gap_of_base" not in unknown
