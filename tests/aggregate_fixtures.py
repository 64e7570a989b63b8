"""Terms over a minibatch written out, Gaussian laws for them, and quadrature, for their tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pyro.distributions as dist
import torch
from stratagem.inference.log_quantities import LogQuantities, Site
from stratagem.inference.terms import (
    AggregateKL,
    AggregateMMD,
    MinibatchInformation,
    PosteriorEntropy,
    RouterSupport,
    RouterToPrior,
    Term,
)
from torch import Tensor

GRID = torch.linspace(-14.0, 14.0, 4001, dtype=torch.float64)


FLOOR = 0.23
"""Of a joint value, above some of either toy's router and below others."""

Written = Callable[[Tensor, Tensor], Tensor]


def summed(share: Callable[[Tensor, Tensor, int, int], Tensor]) -> Written:
    """``(B,)`` of a formula for value k of datum b, from ``q`` and ``p`` ``(P, B)``."""

    def written(log_q: Tensor, log_prior: Tensor) -> Tensor:
        q, p = log_q.exp(), log_prior.exp()
        size, data = q.shape
        return torch.stack([sum(share(q, p, k, b) for k in range(size)) for b in range(data)])

    return written


def others(q: Tensor, p: Tensor, k: int, b: int) -> Tensor:
    """Datum b's part of the products of different data in ``(mean q - mean p)^2`` at k."""
    gaps = [q[k, j] - p[k, j] for j in range(q.shape[1]) if j != b]
    return (q[k, b] - p[k, b]) * sum(gaps) / len(gaps)


WRITTEN: dict[str, tuple[Term, Written]] = {
    "information": (
        MinibatchInformation(),
        summed(lambda q, _, k, b: q[k, b] * (q[k, b].log() - q[k].mean().log())),
    ),
    "aggregate kl": (
        AggregateKL(),
        summed(lambda q, p, k, b: q[k, b] * (q[k].mean().log() - p[k].mean().log())),
    ),
    "aggregate mmd": (AggregateMMD(), summed(others)),
    "router to prior": (
        RouterToPrior(),
        summed(lambda _, p, k, b: p[k, b] * (p[k].mean().log() + math.log(len(p)))),
    ),
    "entropy": (PosteriorEntropy(), summed(lambda q, _, k, b: -q[k, b] * q[k, b].log())),
    "router support": (
        RouterSupport(floor=FLOOR),
        summed(lambda q, p, k, b: q[k, b].detach() * max(math.log(FLOOR) - p[k, b].log(), 0 * p[k, b])),
    ),
}
"""Each term, and its formula for latents of finite support."""


def gaussian_parameters(seed: int = 0, data: int = 3, dimensions: int = 2) -> list[Tensor]:
    """Means and log standard deviations of the posteriors, then of the routers' laws, ``(B, D)`` each."""
    numbers = torch.Generator().manual_seed(seed)
    spread = (1.0, 0.3, 0.6, 0.2)
    return [
        (s * torch.randn(data, dimensions, generator=numbers, dtype=torch.float64)).requires_grad_()
        for s in spread
    ]


def gaussian_log(parameters: Sequence[Tensor], particles: int) -> LogQuantities:
    """One latent ``z`` of such laws, as ``Sample`` reads them, its likelihood one."""
    q_mean, q_log_scale, p_mean, p_log_scale = parameters
    shape = (particles, len(q_mean))
    posterior = dist.Normal(q_mean, q_log_scale.exp()).to_event(1).expand(shape)
    prior = dist.Normal(p_mean, p_log_scale.exp()).to_event(1)
    z = posterior.rsample()
    log_prior, log_q = prior.log_prob(z), posterior.log_prob(z)
    sites = {"z": Site(z, prior, posterior, log_prior, log_q)}
    return LogQuantities(torch.zeros_like(log_q), log_prior, log_q, False, sites)


def density(z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Of a normal law, written out."""
    return (-0.5 * ((z - mean) / log_scale.exp()) ** 2 - log_scale).exp() / math.sqrt(2 * math.pi)


def mixture(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Mean over the data of one-dimensional laws, ``(B, 1)``, on :data:`GRID`."""
    return density(GRID, mean, log_scale).mean(0)


def integral(values: Tensor) -> Tensor:
    """Over :data:`GRID`, ``(..., points)``."""
    return torch.trapezoid(values, GRID)


def divergence(q: Tensor, p: Tensor) -> Tensor:
    """``KL(q || p)`` of two densities on :data:`GRID`."""
    return integral(q * (q.clamp_min(1e-300).log() - p.clamp_min(1e-300).log()))


def holds_in_expectation(
    draw: Callable[[], Tensor], truth: Tensor, parameters: Sequence[Tensor], repeats: int = 100
) -> None:
    """A drawn scalar has the value and the gradient of ``truth`` in the mean.

    Within 4.5 standard errors, and these below 0.02: with 20 figures a false alarm once in 7000 seeds.
    """
    expected = [truth, *gradients(truth, parameters)]
    drawn = []
    for _ in range(repeats):
        value = draw()
        drawn.append([value, *gradients(value, parameters)])
    for found, figure in zip(zip(*drawn, strict=True), expected, strict=True):
        rows = torch.stack(found).detach()
        error = rows.std(0) / repeats**0.5
        assert (error < 0.02).all(), "too noisy to say anything"
        assert ((rows.mean(0) - figure.detach()).abs() <= 4.5 * error + 1e-9).all(), (rows.mean(0), figure)


def gradients(scalar: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Of a scalar, zero where there is none; the graph is kept."""
    found = torch.autograd.grad(scalar, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
