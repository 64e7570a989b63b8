"""The figures of meaning on outputs and posteriors whose strategies are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score
from stratagem.inference.evaluation.meaning import (
    alignment,
    matched,
    output_figures,
    per_prompt_alignment,
    posterior_figures,
)

from .meaning_fixtures import MUTE, RNG, TASK, TELLING, S, certain, traces


def figures_of(outputs: list[list[str]], usage: Any = None, prompts: list[str] = TELLING) -> dict[str, float]:
    weights = np.ones(len(outputs)) if usage is None else np.array(usage)
    found = output_figures(TASK, prompts, outputs, weights / weights.sum(), "")
    return {name.removeprefix("meaning/"): value for name, value in found.items()}


def test_there_are_prompts_of_either_kind() -> None:
    assert len(TELLING) == 120
    assert MUTE
    assert all(len({TASK.trace(p, s, ";") for s in TASK.strategies}) < S for p in MUTE)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_one_latent_a_strategy_is_perfect_whatever_its_number(order: tuple[int, ...]) -> None:
    found = figures_of(traces(order))
    assert (found["alignment"], found["purity"], found["coverage"]) == (1, 1, 1)
    assert found["per_prompt_gap"] == pytest.approx(0)
    assert found["alignment_se"] == 0


def test_labels_that_change_from_prompt_to_prompt_show_in_the_gap() -> None:
    found = figures_of(traces(lambda k, n: (k + n) % S))
    assert found["alignment"] == pytest.approx(1 / S)
    assert found["purity"] == pytest.approx(1 / S)
    assert found["coverage"] == 1
    assert found["per_prompt_gap"] == pytest.approx(1 - 1 / S)


def test_a_strategy_without_a_latent_counts_nothing() -> None:
    found = figures_of(traces((3, 1)))
    assert (found["alignment"], found["purity"], found["coverage"]) == (0.5, 1, 0.5)
    assert found["per_prompt_gap"] == pytest.approx(0)


def test_a_latent_without_a_strategy_takes_nothing_from_the_alignment() -> None:
    mixed = traces(lambda k, n: (k + n) % S)[0]
    outputs = [*traces((0, 1, 2, 3)), mixed, mixed]
    found = figures_of(outputs)
    assert found["alignment"] == 1
    assert found["purity"] == pytest.approx((4 + 2 / S) / 6)
    assert figures_of(outputs, usage=[1, 1, 1, 1, 0, 0])["purity"] == 1
    assert figures_of(outputs, usage=[0, 0, 0, 0, 1, 1])["purity"] == pytest.approx(1 / S)


def test_the_matching_is_the_best_and_not_the_greedy_one() -> None:
    rows, columns = matched(np.array([[0.9, 0.8], [0.8, 0.0]]))
    assert sorted(zip(rows, columns, strict=True)) == [(0, 1), (1, 0)]


def test_prompts_that_cannot_tell_strategies_apart_do_not_count() -> None:
    outputs = [row + ["0 0 0"] * len(MUTE) for row in traces((0, 1, 2, 3))]
    assert figures_of(outputs, prompts=TELLING + MUTE) == figures_of(traces((0, 1, 2, 3)))


def test_nonsense_follows_nothing() -> None:
    found = figures_of([["0 0 0"] * len(TELLING)] * S)
    assert set(found.values()) == {0.0}


def test_chance_lies_between_one_over_s_and_a_half() -> None:
    """Outputs that do not depend on z: each column of A is the strategies' own frequency, up to noise."""
    outputs = traces(lambda *_: RNG.randrange(S))
    found = figures_of(outputs)
    error = math.sqrt(0.25 * 0.75 / len(TELLING))
    assert abs(found["purity"] - 1 / S) < 1 / S
    assert 1 / S - 4 * error < found["alignment"] < 1 / S + 4 * error
    assert found["per_prompt_gap"] > 0.3


Sample = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""What the outputs to fresh prompts follow, ``(K, N, S)``, and the prompts that count, ``(N, S)``."""


def with_nonsense(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(S)[:, None] * (rng.random((S, 300, 1)) > 0.2), np.ones((300, S), dtype=bool)


def with_labels_swapped(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    swapped = np.eye(S)[[1, 0, *range(2, S)]]
    here = rng.random((300, 1)) < 1 / 3
    return np.where(here, swapped[:, None], np.eye(S)[:, None]), np.ones((300, S), dtype=bool)


def with_a_strategy_rarely_open(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    followed, counted = np.eye(S)[:, None].repeat(300, 1), np.ones((300, S), dtype=bool)
    counted[:, -1] = rng.random(300) < 0.1
    followed[-1] *= counted[:, -1:] & (rng.random((300, 1)) > 0.3)
    return followed, counted


def with_latents_to_spare(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    followed, counted = with_nonsense(rng)
    return np.concatenate([followed, np.eye(S)[rng.integers(S, size=(2 * S, 300))]]), counted


SAMPLES = (with_nonsense, with_labels_swapped, with_a_strategy_rarely_open, with_latents_to_spare)


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_error_of_the_alignment_is_its_spread_over_samples_of_prompts(sample: Sample) -> None:
    rng = np.random.default_rng(0)
    values, errors = zip(*(alignment(*sample(rng)) for _ in range(400)), strict=True)
    # The spread of 400 values is known to 4 %.
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("values", [2, S, 2 * S])
def test_the_gap_is_never_below_zero(values: int) -> None:
    """Whatever is open where: one matching for all prompts is among those of each prompt."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        counted = rng.random((30, S)) < rng.random(S)
        followed = np.eye(S)[rng.integers(S, size=(values, 30))]
        assert per_prompt_alignment(followed, counted) >= alignment(followed, counted)[0] - 1e-12


def test_strategies_that_are_not_always_open_open_no_gap() -> None:
    followed, counted = with_a_strategy_rarely_open(np.random.default_rng(0))
    for kept in (slice(None), slice(1, None)):
        found = alignment(followed[kept], counted)[0]
        assert per_prompt_alignment(followed[kept], counted) == pytest.approx(found)


def labelled(num: int = 200) -> tuple[list[str], list[str], list[int], list[int]]:
    """Prompts, responses, and the numbers of their strategies and nuisances, independent of each other."""
    rng = random.Random(1)
    prompts = [rng.choice(TELLING) for _ in range(num)]
    strategies = [rng.randrange(S) for _ in prompts]
    nuisances = [rng.randrange(2) for _ in prompts]
    responses = [
        TASK.trace(p, TASK.strategies[s], TASK.nuisances[n])
        for p, s, n in zip(prompts, strategies, nuisances, strict=True)
    ]
    return prompts, responses, strategies, nuisances


def posterior_of(labels: list[int], K: int) -> dict[str, float]:
    prompts, responses, _, _ = labelled()
    found = posterior_figures(TASK, prompts, responses, certain(labels, K))
    return {name.removeprefix("meaning/"): value for name, value in found.items()}


def test_a_posterior_that_knows_the_strategy() -> None:
    _, _, strategies, _ = labelled()
    for labels, K in ((strategies, S), ([3 - s for s in strategies], S), ([s + 2 for s in strategies], 7)):
        found = posterior_of(labels, K)
        assert found["posterior_accuracy"] == 1
        assert found["ami"] == pytest.approx(1)
        assert found["ari"] == pytest.approx(1)
        assert abs(found["nuisance_ami"]) < 0.03


def test_a_posterior_that_knows_nothing_has_none_even_with_many_latents() -> None:
    _, _, strategies, _ = labelled()
    rng = random.Random(2)
    labels = [rng.randrange(24) for _ in strategies]
    found = posterior_of(labels, 24)
    assert abs(found["ami"]) < 0.05
    assert abs(found["ari"]) < 0.05
    assert abs(found["nuisance_ami"]) < 0.05
    assert normalized_mutual_info_score(strategies, labels) > 0.08, "which is why it is adjusted for chance"


def test_a_posterior_that_follows_the_nuisance() -> None:
    _, _, _, nuisances = labelled()
    found = posterior_of(nuisances, S)
    assert found["nuisance_ami"] == pytest.approx(1)
    assert abs(found["ami"]) < 0.05


def test_a_constant_tells_nothing_even_of_a_constant() -> None:
    """Two labellings that are each all the same agree perfectly, and share no information."""
    prompts, responses, strategies, nuisances = labelled()
    alike = [n for n, (s, m) in enumerate(zip(strategies, nuisances, strict=True)) if (s, m) == (0, 0)]
    found = posterior_figures(
        TASK, [prompts[n] for n in alike], [responses[n] for n in alike], certain([1] * len(alike), S)
    )
    assert (found["meaning/ami"], found["meaning/nuisance_ami"]) == (0, 0)


def test_responses_that_follow_none_or_several_do_not_count() -> None:
    prompts, responses, strategies, _ = labelled()
    mute = next(p for p in MUTE if len(TASK.strategies_of(p, TASK.trace(p, "bubble", ";"))) > 1)
    more = posterior_figures(
        TASK,
        [*prompts, mute, prompts[0]],
        [*responses, TASK.trace(mute, "bubble", ";"), "0 0"],
        certain([*strategies, 0, 1], S),
    )
    assert more["meaning/posterior_accuracy"] == 1
    none = posterior_figures(TASK, prompts[:2], ["0 0", "1 1"], certain([0, 1], S))
    assert none == {}
