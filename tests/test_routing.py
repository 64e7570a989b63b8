"""The router against p(s|x), and how far forced strategies fall below the base, on cases worked out by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from stratagem.inference.comparison import Row, Run, ranked
from stratagem.inference.evaluation import routing as module
from stratagem.inference.evaluation.meaning import telling
from stratagem.inference.evaluation.routing import followed_most, routing
from stratagem.inference.evaluation.skill import OfBase, skill
from stratagem.tasks import BaseConversion, Sorting, Task
from torch import Tensor

TASK = BaseConversion()
"""``binary``, the last of its strategies, is open to about half of the prompts; all prompts are telling."""

S = len(TASK.strategies)
PROMPTS = TASK.prompts(60, "test", 0)
THROUGH = np.array(["binary" in TASK.admissible(p) for p in PROMPTS])
NONSENSE = ["0 0"] * len(PROMPTS)


def outputs_of(*strategies: str, otherwise: str = "division") -> list[list[str]]:
    """For each strategy a latent that follows it where it is open, and ``otherwise`` elsewhere."""
    return [
        [TASK.trace(p, s if s in TASK.admissible(p) else otherwise, ";") for p in PROMPTS] for s in strategies
    ]


def truth(task: Task = TASK, prompts: Sequence[str] = PROMPTS) -> Tensor:
    """``p(s|x)``, ``(N, S)``."""
    return torch.tensor([[task.admissible(p).get(s, 0.0) for s in task.strategies] for p in prompts])


def calibration(router: Tensor, outputs: list[list[str]] | None = None) -> float:
    return routing(TASK, PROMPTS, outputs or outputs_of(*TASK.strategies), router)["router/calibration"]


def test_there_are_prompts_of_either_kind() -> None:
    assert telling(TASK, PROMPTS).any(1).all()
    assert 0.3 < THROUGH.mean() < 0.7


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_a_router_that_is_the_law_of_the_strategies_is_calibrated(order: tuple[int, ...]) -> None:
    outputs = outputs_of(*(TASK.strategies[s] for s in order))
    found = routing(TASK, PROMPTS, outputs, truth()[:, list(order)])
    assert found["router/calibration"] == pytest.approx(0, abs=1e-6)
    assert found["router/calibration_se"] == pytest.approx(0, abs=1e-6)


def test_what_a_router_gives_to_a_strategy_that_is_not_open_is_its_distance() -> None:
    """Uniform over four: a fourth too much where three are open, right where all are."""
    shut = (~THROUGH).mean()
    assert calibration(torch.full((60, S), 1 / S)) == pytest.approx(shut / 4)
    leaning = torch.tensor([0.7, 0.1, 0.1, 0.1]).expand(60, S)
    by_hand = THROUGH.mean() * 0.45 + shut * (0.7 - 1 / 3 + 0.1)
    assert calibration(leaning) == pytest.approx(by_hand, abs=1e-6)


def test_the_mean_of_the_router_is_what_reading_x_is_held_against() -> None:
    share = THROUGH.mean()
    b = share / 4  # of binary in the mean law
    by_hand = share * (1 / 4 - b) + (1 - share) * b
    found = routing(TASK, PROMPTS, outputs_of(*TASK.strategies), truth())
    assert found["router/calibration_prior"] == pytest.approx(by_hand, abs=1e-6)
    assert found["router/calibration_prior"] > 0.1 > found["router/calibration"]
    blind = routing(TASK, PROMPTS, outputs_of(*TASK.strategies), torch.full((60, S), 1 / S))
    assert blind["router/calibration_prior"] == pytest.approx(blind["router/calibration"])


def test_latents_that_share_a_strategy_add_up() -> None:
    twice = torch.cat([0.3 * truth()[:, :1], 0.7 * truth()[:, :1], truth()[:, 1:]], 1)
    outputs = outputs_of("division", *TASK.strategies)
    assert calibration(twice, outputs) == pytest.approx(0, abs=1e-6)


def test_a_strategy_without_a_latent_has_no_probability() -> None:
    """Two latents of one strategy are no match for another, as a one-to-one matching would have it."""
    outputs = outputs_of("division", "powers", "places", "places")
    router = torch.full((60, S), 1 / S)
    by_hand = THROUGH.mean() / 4 + (~THROUGH).mean() * (1 / 2 - 1 / 3)
    assert calibration(router, outputs) == pytest.approx(by_hand)


def test_what_goes_to_a_latent_that_follows_nothing_is_lost() -> None:
    outputs = [*outputs_of(*TASK.strategies), NONSENSE]
    assert followed_most(TASK, PROMPTS, outputs).tolist() == [0, 1, 2, 3, -1]
    router = torch.cat([0.8 * truth(), torch.full((60, 1), 0.2)], 1)
    assert calibration(router, outputs) == pytest.approx(0.2, abs=1e-6)
    assert calibration(torch.full((60, 2), 0.5), [NONSENSE, NONSENSE]) == pytest.approx(1)


def test_a_collapsed_latent_is_not_calibrated() -> None:
    """Whatever the router, a z that follows all strategies in turn stands for one of them."""
    rng = random.Random(0)
    outputs = [[TASK.sample(p, rng).response for p in PROMPTS] for _ in range(S)]
    assert calibration(torch.tensor([1.0, 0, 0, 0]).expand(60, S), outputs) > 0.6


def test_prompts_that_cannot_tell_strategies_apart_do_not_count() -> None:
    task = Sorting()
    prompts = task.prompts(80, "test", 0)
    tell = telling(task, prompts).any(1)
    assert 0 < tell.sum() < 80
    outputs = [[task.trace(p, s, ";") for p in prompts] for s in task.strategies]
    router = torch.where(torch.tensor(tell)[:, None], 0.25, torch.tensor([1.0, 0, 0, 0]))
    assert routing(task, prompts, outputs, router)["router/calibration"] == pytest.approx(0)
    mute = [n for n in range(80) if not tell[n]]
    rows = [[row[n] for n in mute] for row in outputs]
    assert routing(task, [prompts[n] for n in mute], rows, router[mute]) == {}


def test_the_error_is_that_of_a_bootstrap() -> None:
    numbers = torch.Generator().manual_seed(0)
    router = torch.rand(60, S, generator=numbers).log_softmax(1).exp()
    each = torch.tensor(
        [float((p - q).abs().sum() / 2) for p, q in zip(truth().double(), router.double(), strict=True)]
    )
    found = routing(TASK, PROMPTS, outputs_of(*TASK.strategies), router)
    again = each[torch.randint(60, (4000, 60), generator=numbers)].mean(1)
    assert found["router/calibration"] == pytest.approx(float(each.mean()), abs=1e-6)
    assert found["router/calibration_se"] == pytest.approx(float(again.std()), rel=0.05)


@pytest.mark.parametrize(
    ("law", "factor"),
    [
        (test_what_a_router_gives_to_a_strategy_that_is_not_open_is_its_distance, 1.0),
        (test_what_goes_to_a_latent_that_follows_nothing_is_lost, 0.5),
    ],
    ids=["the sum is not halved", "what is lost is left out"],
)
def test_another_distance_would_not_do(
    law: Callable[[], None], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(p: np.ndarray, q: np.ndarray) -> Tensor:
        return torch.from_numpy(np.abs(p - q).sum(1) * factor)

    monkeypatch.setattr(module, "_total_variation", wrong)
    with pytest.raises(AssertionError):
        law()


def forced_gap(
    forced: list[list[str]], usage: list[float], base: list[str] | None = None
) -> dict[str, float]:
    right = [TASK.trace(p, "division", ";") for p in PROMPTS]
    return skill(TASK, PROMPTS, [right], [OfBase(base or right)], [[row] for row in forced], usage)


def test_a_forced_strategy_is_held_to_the_base_where_it_is_open() -> None:
    """Binary fails wherever it is shut and, of the rest, on one prompt; the least accuracy counts all of it."""
    binary = [TASK.trace(p, "binary", ";") if o else "0" for p, o in zip(PROMPTS, THROUGH, strict=True)]
    failed = int(np.flatnonzero(THROUGH)[0])
    binary[failed] = "0"
    forced = [*outputs_of("division", "powers"), binary]
    found = forced_gap(forced, [0.4, 0.4, 0.2])
    n = THROUGH.sum()
    assert found["skill/accuracy_forced_gap"] == pytest.approx(1 / n)
    assert found["skill/accuracy_forced_gap_se"] == pytest.approx(1 / n), (
        "one of n: sqrt((n - 1) / n² / (n - 1))"
    )
    assert found["skill/accuracy_forced_min"] == pytest.approx((THROUGH.sum() - 1) / 60)
    base = [*outputs_of("division")[0]]
    base[failed] = "0"
    assert forced_gap(forced, [0.4, 0.4, 0.2], base)["skill/accuracy_forced_gap"] == pytest.approx(0), (
        "the base is wrong on the same prompt"
    )
    assert forced_gap(forced, [0.5, 0.5, 0.001])["skill/accuracy_forced_gap"] == 0, "not in use"


def test_a_latent_that_follows_nothing_is_held_to_the_base_everywhere() -> None:
    found = forced_gap([*outputs_of("division"), NONSENSE], [0.5, 0.5])
    assert found["skill/accuracy_forced_gap"] == 1
    assert "skill/accuracy_forced_gap" not in forced_gap([], [])


def test_of_the_new_figures_less_is_better() -> None:
    for name in ("router/calibration", "router/calibration_prior", "skill/accuracy_forced_gap"):
        rows = [Row({"a": str(v)}, [Run(Path("r"), {}, {}, {name: v})]) for v in (0.3, 0.1, 0.2)]
        assert [row.settings["a"] for row in ranked(rows, name)] == ["0.1", "0.2", "0.3"]
