"""The tail-adaptive gradient against its sum over the draws written out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import TailAdaptive
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, IWAE, PIWAE, AutoGen, Objective, Renyi
from torch import Tensor

from .gaussian_fixtures import Bound, Chain, OneSite, Problem, log_mean, mean, normal
from .inference_fixtures import close

Y = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
PROBLEMS: dict[str, Callable[[], Problem]] = {"one site": OneSite, "chain": Chain}


def noise_of(problem: Problem, particles: int = 5) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(7)
    return {name: torch.randn(particles, 3, generator=numbers, dtype=torch.float64) for name in problem.sites}


def through_the_draws(problem: Problem, noise: dict[str, Tensor]) -> Tensor:
    """``(S, B)``, whose gradient in the guide is that of ``log w`` through z, the densities held fixed."""
    m, live, g = copy.deepcopy(problem.model), problem.guide, copy.deepcopy(problem.guide)
    for held in (m, g):
        held.requires_grad_(False)
    if isinstance(problem, OneSite):
        mu, scale = g.a * Y + g.b, g.r.exp()
        z = live.a * Y + live.b + live.r.exp() * noise["z"]
        at = z.detach()
        return z * (m.w * (Y - m.w * at - m.c) / (2 * m.log_s).exp() - at + (at - mu) / scale**2)
    z1 = live.a1 * Y + live.b1 + live.r1.exp() * noise["z1"]
    z2 = live.a2 * Y + live.d * z1 + live.b2 + live.r2.exp() * noise["z2"]
    log_p = normal(z1, 0.0, 1.0) + normal(z2, m.m * z1, 1.0)
    log_p = log_p + normal(Y, m.u * z1 + m.w * z2 + m.c, m.log_s.exp())
    return (
        log_p - normal(z1, g.a1 * Y + g.b1, g.r1.exp()) - normal(z2, g.a2 * Y + g.d * z1 + g.b2, g.r2.exp())
    )


def ranked(log_w: Tensor, beta: float) -> Tensor:
    """The weights of algorithm 1, one by one."""
    out = torch.zeros_like(log_w)
    for b in range(log_w.shape[1]):
        column = log_w[:, b].tolist()
        gamma = [(sum(v >= w for v in column) / len(column)) ** beta for w in column]
        out[:, b] = torch.tensor(gamma, dtype=log_w.dtype) / sum(gamma)
    return out


def check(
    problem: Problem,
    gradient: TailAdaptive,
    beta: float,
    objective: Objective,
    bound: Bound,
    alone: bool = True,
) -> None:
    """The law: the guide has the ranked sum through the draws, the model its own bound."""
    noise = noise_of(problem)
    log_w = problem.log_w(Y, noise)
    guide = problem.gradients(
        (ranked(log_w.detach(), beta) * through_the_draws(problem, noise)).sum(0).mean()
    )
    model = problem.gradients(bound(problem.log_w(Y, noise)).mean())
    value, raised = gradient.surrogate(objective, problem.run(Y, noise, alone))
    torch.testing.assert_close(value, bound(log_w), rtol=0, atol=1e-10)
    close(
        problem.gradients(raised.mean()),
        {name: (model if name.startswith("model.") else guide)[name] for name in model},
    )


@pytest.mark.parametrize("beta", [-1.0, -0.4, 0.0])
@pytest.mark.parametrize(("objective", "bound"), [(ELBO(), mean), (IWAE(), log_mean)], ids=["elbo", "iwae"])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("alone", [True, False])
def test_the_gradient_is_the_sum_written_out(
    problem: str, beta: float, objective: Objective, bound: Bound, alone: bool
) -> None:
    check(PROBLEMS[problem](), TailAdaptive(beta), beta, objective, bound, alone)


class LightestFirst(TailAdaptive):
    def weights(self, log_w: Tensor) -> Tensor:
        return super().weights(-log_w)


class OverTheData(TailAdaptive):
    def weights(self, log_w: Tensor) -> Tensor:
        return super().weights(log_w.T).T


class NotHeld(TailAdaptive):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        return objective.bound(log), (self.weights(log.log_w) * log.log_w).sum(0)


class ModelToo(TailAdaptive):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        weights = self.weights(log.log_w)
        raised = super().surrogate(objective, log)[1]
        return objective.bound(log), raised + ((weights - 1 / len(weights)) * log.log_prior).sum(0)


@pytest.mark.parametrize("wrong", [LightestFirst, OverTheData, NotHeld, ModelToo])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_wrong_gradient_is_found_out(problem: str, wrong: type[TailAdaptive]) -> None:
    with pytest.raises(AssertionError):
        check(PROBLEMS[problem](), wrong(-1.0), -1.0, ELBO(), mean)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_posterior_has_no_gradient_on_any_draw(problem: str) -> None:
    exact = PROBLEMS[problem]()
    before = exact.gradients(TailAdaptive().surrogate(ELBO(), exact.run(Y, noise_of(exact)))[1].mean())
    exact.make_exact()
    after = exact.gradients(TailAdaptive().surrogate(ELBO(), exact.run(Y, noise_of(exact)))[1].mean())
    for name, gradient in after.items():
        if name.startswith("guide."):
            assert before[name].abs() > 1e-3
            assert gradient.abs() < 1e-9


def test_equal_weights_share_a_rank() -> None:
    log_w = torch.tensor([[1.0], [3.0], [1.0], [0.0]], dtype=torch.float64)
    weights = TailAdaptive().weights(log_w)
    expected = torch.tensor([[4 / 3], [4.0], [4 / 3], [1.0]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected / expected.sum())


@pytest.mark.parametrize("beta", [0.1, float("nan"), -float("inf")])
def test_a_power_that_makes_no_sense_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be finite and at most 0"):
        TailAdaptive(beta)


@pytest.mark.parametrize(
    ("objective", "particles", "named"),
    [
        (ELBO(0.5), 4, r"ELBO would not see; use objective ELBO \(beta 1\) or IWAE"),
        (AutoGen(), 4, "AutoGen would not see"),
        (PIWAE(), 4, "PIWAE would not see"),
        (Renyi(-1.0), 4, "Renyi would not see"),
        (ELBO(), 1, "num_particles of 2 or more, got 1"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(objective: Objective, particles: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Inference(objective, Sample(particles), TailAdaptive())
