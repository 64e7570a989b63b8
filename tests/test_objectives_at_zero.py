"""Enumerated objectives where a probability is zero, or next to it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from stratagem.inference.expectations import Enumerate
from stratagem.inference.log_quantities import LogQuantities, Site
from stratagem.inference.objectives import (
    ELBO,
    EM,
    AutoGen,
    Capacity,
    FDivergence,
    FreeBits,
    KLThreshold,
    MarginalLikelihood,
    Objective,
    Renyi,
)
from stratagem.inference.objectives.f_divergence import PERSPECTIVES
from torch import Tensor

from .inference_fixtures import EXACT

OBJECTIVES: list[Objective] = [
    ELBO(0.3),
    EM(),
    AutoGen(),
    Capacity(),
    FreeBits(0.1),
    KLThreshold(0.1),
    MarginalLikelihood(),
    *(Renyi(alpha) for alpha in (-1.0, 0.0, 0.5, 2.0)),
    *map(FDivergence, PERSPECTIVES),
    FDivergence(lambda t: (t.sqrt() - 1) ** 2),
]


def table(
    prior: Sequence[float], q: Sequence[float], lik: Sequence[float], dtype: torch.dtype
) -> LogQuantities:
    log_prior, log_q = (torch.tensor(v, dtype=dtype).log()[:, None].requires_grad_() for v in (prior, q))
    log_lik = torch.tensor(lik, dtype=dtype)[:, None].requires_grad_()
    law = torch.distributions.Categorical(torch.ones(len(q)))
    sites = {"z": Site(log_lik, law, law, log_prior, log_q)}  # the laws are not read
    return LogQuantities(log_lik, log_prior, log_q, True, sites)


def finite_gradients(bound: Tensor, log: LogQuantities) -> list[Tensor]:
    parts = (log.log_lik, log.log_prior, log.log_q)
    found = torch.autograd.grad(bound.sum(), parts, allow_unused=True)
    kept = [torch.zeros_like(p) if g is None else g for p, g in zip(parts, found, strict=True)]
    assert all(g.isfinite().all() for g in kept)
    return kept


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_a_value_that_nothing_reaches_counts_nothing(objective: Objective) -> None:
    assert Enumerate in objective.expectations
    three = table([0.4, 0.6, 0.0], [0.3, 0.7, 0.0], [-3.0, -2.0, -5.0], torch.float64)
    two = table([0.4, 0.6], [0.3, 0.7], [-3.0, -2.0], torch.float64)
    for bound in (objective.bound, objective.guide_bound):
        torch.testing.assert_close(bound(three), bound(two), **EXACT)
        for a, b in zip(
            finite_gradients(bound(three), three), finite_gradients(bound(two), two), strict=True
        ):
            torch.testing.assert_close(a[:2], b, **EXACT)


def by_hand(name: str, p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2
    return {
        "total_variation": (p - q).abs().sum() / 2,
        "hellinger": 1 - (p * q).sqrt().sum(),
        "jensen_shannon": (torch.xlogy(p, p / middle) + torch.xlogy(q, q / middle)).sum() / 2,
    }[name]


@pytest.mark.parametrize("name", ["total_variation", "hellinger", "jensen_shannon"])
def test_disjoint_supports_have_a_finite_divergence(name: str) -> None:
    log = table([0.4, 0.6, 0.0], [0.3, 0.0, 0.7], [-2.0, -2.0, -2.0], torch.float64)
    p, q = log.log_prior.exp()[:, 0], log.log_q.exp()[:, 0]
    bound = FDivergence(name).bound(log)
    torch.testing.assert_close(log.log_marginal - bound, by_hand(name, p, q)[None], **EXACT)
    finite_gradients(bound, log)


def test_a_function_of_ones_own_has_its_limits_at_zero() -> None:
    log = table([0.4, 0.6, 0.0], [0.3, 0.0, 0.7], [-2.0, -2.0, -2.0], torch.float64)
    for name, f in (
        ("total_variation", lambda t: (t - 1).abs() / 2),
        ("hellinger", lambda t: (t.sqrt() - 1) ** 2 / 2),
    ):
        bound = FDivergence(f).bound(log)
        torch.testing.assert_close(bound, FDivergence(name).bound(log), **EXACT)
        finite_gradients(bound, log)


@pytest.mark.parametrize("name", [n for n in PERSPECTIVES if n != "chi_square"])
def test_hundreds_of_nats_apart_in_single_precision(name: str) -> None:
    """As a language model's likelihoods are: where densities are all zero in numbers, their logarithms are not."""
    log = table([0.2, 0.3, 0.5], [0.5, 0.3, 0.2], [-1000.0, -400.0, -1500.0], torch.float32)
    log_q = torch.tensor([-500.0, 0.0, -300.0])[:, None].requires_grad_()
    for at in (log, LogQuantities(log.log_lik, log.log_prior, log_q, True)):
        bound = FDivergence(name).bound(at)
        assert bound.isfinite().all()
        finite_gradients(bound, at)
    if name == "reverse_kl":
        torch.testing.assert_close(FDivergence(name).bound(log), ELBO().bound(log))
