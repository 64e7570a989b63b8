"""What likelihood and information cannot tell apart: labels swapped on some prompts, and a z that is the mark."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache, partial
from itertools import zip_longest

import numpy as np
import pytest
import torch
from stratagem.inference.evaluation.meaning import output_figures, posterior_figures, telling
from stratagem.inference.evaluation.position import DECODED, Positions, positions, prefix_posterior
from stratagem.inference.expectations import Enumerate
from stratagem.tasks import Addition, Sorting
from torch import Tensor

from .known_law_fixtures import Given, known, one_hot

TWO = Addition(strategies=("carry", "left"))
PROMPTS = TWO.prompts(60, "test", 0)


def swapped(prompt: str, share: float) -> bool:
    """Whether the prompt is of the second sort."""
    return PROMPTS.index(prompt) < round(share * len(PROMPTS))


def by_sort(share: float, prompt: str, s: int, _: int) -> Tensor:
    """z = 0 is the first strategy on prompts of the first sort and the second on those of the other."""
    return one_hot(1 - s if swapped(prompt, share) else s, 2)


def of_outputs(given: Given, noise: float = 0.0) -> dict[str, float]:
    """The figures of forced outputs, some of which are those of another latent."""
    model, _, _ = known(TWO, PROMPTS[:1], given, 2)
    outputs = model.outputs(PROMPTS)
    rng = random.Random(1)
    mixed = [
        [outputs[rng.randrange(2)][n] if rng.random() < 2 * noise else text for n, text in enumerate(row)]
        for row in outputs
    ]
    found = output_figures(TWO, PROMPTS, mixed, np.ones(2) / 2, "")
    return {name.removeprefix("meaning/"): value for name, value in found.items()}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.7, 1.0])
def test_the_gap_is_the_share_of_prompts_on_which_labels_are_swapped(share: float) -> None:
    """Recovered on each prompt, inconsistent over all: 0.5 and 1 where the sorts are of a size."""
    found = of_outputs(partial(by_sort, share))
    assert found["alignment"] == pytest.approx(max(share, 1 - share))
    assert found["per_prompt_gap"] == pytest.approx(min(share, 1 - share))
    assert found["coverage"] == 1


def test_noise_is_no_swap() -> None:
    """Outputs that are wrong by themselves lower the alignment, and hardly open the gap."""
    noisy, exact = of_outputs(partial(by_sort, 0.0), noise=0.1), of_outputs(partial(by_sort, 0.3))
    assert noisy["alignment"] < 0.95
    assert noisy["per_prompt_gap"] < 0.05
    assert exact["per_prompt_gap"] == pytest.approx(0.3)


def test_neither_likelihood_nor_information_sees_a_swap() -> None:
    """Consistent or not, the marginal is the task's law and z tells log 2 of it; the matching sees the difference."""
    prompts = [*PROMPTS[:10], *PROMPTS[-10:]]
    figures = {}
    for share in (0.0, 0.5):
        model, guide, data = known(TWO, prompts, partial(by_sort, share), 2)
        log = Enumerate()(model, guide, data.batch(range(len(data))))
        law = torch.tensor([TWO.law(p)[y] for p, y in zip(data.prompts, data.responses, strict=True)])
        torch.testing.assert_close(log.log_marginal, law.double().log(), rtol=0, atol=1e-7)
        found = positions(model, guide, data, TWO)
        assert found.figures["position/information"] == pytest.approx(math.log(2), abs=1e-6)
        posterior = prefix_posterior(model, guide, data)[..., -1].exp().T
        figures[share] = posterior_figures(TWO, data.prompts, data.responses, posterior)
        assert found.reading == ("strategy" if share == 0 else "neither")
    assert figures[0.0]["meaning/posterior_accuracy"] == 1
    assert figures[0.5]["meaning/posterior_accuracy"] == 0.5
    assert figures[0.0]["meaning/ami"] == pytest.approx(1)
    assert abs(figures[0.5]["meaning/ami"]) < 0.02


MARKS = tuple("!?;|/&%$")
TASK = Sorting(length=4, strategies=("insertion", "merge"), nuisances=MARKS)
"""Marks of 2.1 nats beside strategies of 0.7."""

CUTS: dict[str, tuple[Callable[[int, int], Tensor], int]] = {
    "the strategy": (lambda s, _: one_hot(s, 2), 2),
    "the mark": (lambda _, n: one_hot(n, 8), 8),
    "half of the marks": (lambda _, n: one_hot(n // 4, 2), 2),
    "both": (lambda s, n: one_hot(8 * s + n, 16), 16),
    "nothing": (lambda *_: torch.tensor([0.6, 0.4]), 2),
    "hardly the mark": (lambda _, n: 0.5 + 0.001 * torch.tensor([1 - 2 * (n // 4), 2 * (n // 4) - 1]), 2),
}
"""What z is told of strategy and mark, and the number of its values."""


every_prompt = TASK.prompts(40, "test", 0)
TELLING = [p for p, row in zip(every_prompt, telling(TASK, every_prompt), strict=True) if row.any()][:12]


@cache
def found(cut: str) -> Positions:
    given, P = CUTS[cut]
    model, guide, data = known(TASK, TELLING, lambda _, s, n: given(s, n), P)
    return positions(model, guide, data, TASK)


def parting(prompt: str) -> int:
    """The first token in which the strategies differ, counted from 1."""
    one, other = (TASK.trace(prompt, s, MARKS[0]).split() for s in TASK.strategies)
    return next(t for t, (a, b) in enumerate(zip_longest(one, other), 1) if a != b)


@pytest.mark.parametrize(
    ("cut", "reading"),
    [
        ("the strategy", "strategy"),
        ("the mark", "nuisance"),
        ("half of the marks", "nuisance"),
        ("both", "both"),
        ("nothing", "neither"),
        ("hardly the mark", "neither"),
    ],
)
def test_what_z_carries_is_told(cut: str, reading: str) -> None:
    assert found(cut).reading == reading


def test_the_latents_have_their_curves_in_closed_form() -> None:
    """The mark stands fifth: nothing, then log 8, log 2 for half of them; a strategy is log 2 from where it parts
    from the other; both, being independent, add up."""
    length = len(found("both").columns["tokens"])
    parted = torch.tensor([[parting(p) <= t for p in TELLING] for t in range(length)])
    strategy = math.log(2) * parted.double().mean(1)
    for cut, last in (("the mark", math.log(8)), ("half of the marks", math.log(2)), ("nothing", 0.0)):
        curve = found(cut).columns["information"].tolist()
        assert curve == pytest.approx([0.0] * 5 + [last] * (length - 5), abs=1e-6)
    mark = torch.tensor([0.0] * 5 + [math.log(8)] * (length - 5))
    torch.testing.assert_close(found("the strategy").columns["information"], strategy, rtol=0, atol=1e-6)
    torch.testing.assert_close(found("both").columns["information"], strategy + mark, rtol=0, atol=1e-6)
    assert 0 < float(strategy[4]) < float(strategy[-1]) == math.log(2), (
        "some part before the mark, some after"
    )


def test_how_early_is_told_of_what_z_carries_alone() -> None:
    strategy, mark, both = (found(cut).figures for cut in ("the strategy", "the mark", "both"))
    assert mark["position/nuisance_half"] == mark["position/nuisance_law_half"] == 5
    assert both["position/nuisance_half"] == 5
    assert strategy["position/information_half"] == strategy["position/strategy_law_half"] == 3
    assert both["position/strategy_half"] == 3
    assert "position/strategy_half" not in mark
    assert "position/nuisance_half" not in strategy
    halves = {name for name in found("nothing").figures if name.endswith("_half")}
    assert halves == {"position/strategy_law_half", "position/nuisance_law_half"}
    assert mark["position/nuisance"] == pytest.approx(1)
    assert both["position/nuisance"] > both["position/strategy"] > DECODED


def test_a_likeliest_z_that_is_hardly_likelier_carries_nothing() -> None:
    """It goes along with the mark, and a reading by that alone would say so."""
    figures = found("hardly the mark").figures
    assert figures["position/nuisance"] > DECODED
    assert figures["position/information"] < 1e-5
    assert "position/nuisance_half" not in figures
