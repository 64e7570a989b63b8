"""Expected gradients without Monte Carlo: sums over all tuples of draws, quadrature over the noise of relaxed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Gradient, gumbel_softmax, rebar
from stratagem.inference.log_quantities import LogQuantities, Run
from stratagem.inference.objectives import ELBO, Objective
from stratagem.models import Batch
from torch import Tensor

from .inference_fixtures import Toy

Gradients = dict[str, Tensor]


def mean_over_tuples(log: LogQuantities, bound: Callable[[LogQuantities], Tensor], particles: int) -> Tensor:
    """``E_{z_1..S ~ q}`` of a bound of S draws, from the table ``log`` of one datum, differentiable."""
    places = torch.cartesian_prod(*[torch.arange(len(log.log_q))] * particles).reshape(-1, particles).T
    lik, prior, log_q = (v[:, 0][places] for v in (log.log_lik, log.log_prior, log.log_q))  # (S, tuples)
    return (log_q.sum(0).exp() * bound(LogQuantities(lik, prior, log_q, False))).sum()


def truth(toy: Toy, objective: Objective, particles: int) -> tuple[Tensor, Gradients]:
    """``E[bound]`` of the first datum and what it is raised by, from one enumeration.

    Where model and guide raise bounds of their own, the gradient is of each in its own part.
    """
    log = Enumerate()(toy.model, toy.guide, toy.rows[0])
    bound = mean_over_tuples(log if objective.shared else log.hold_guide(), objective.bound, particles)
    both = bound
    if not objective.shared:
        both = bound + mean_over_tuples(log.hold_model(), objective.guide_bound, particles)
    return bound.detach(), toy.gradients(both)


@dataclass
class Rule:
    """Nodes of the noise of S draws, by site ``(S, N, K)``, and their weights ``(N,)`` under the law of the draws."""

    noise: dict[str, Tensor]
    weight: Tensor


def legendre(num: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on (0, 1), by the Jacobi matrix [Golub & Welsch 1969]."""
    n = torch.arange(1, num, dtype=torch.float64)
    off = n / (4 * n**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return (nodes + 1) / 2, vectors[0] ** 2


def one_draw(log_p: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Gumbel noise ``(N, K)`` of a draw from ``log_p`` ``(K,)``, K = 2 or 3, up to a shift; and weights ``(N,)``.

    ``t_k = exp(-log p_k - noise)`` are exponential variables of rate ``p_k``, the smallest that of z. Given z, let
    ``t_k = t_z (1 + x_k)``: then ``(1, p_k x_k, ...) / (1 + sum_k p_k x_k)`` is uniform on the simplex. There the
    integrand is smooth but for the corners at which one x alone is infinite, which polar coordinates open.
    """
    nodes, weights = legendre(num)
    r, t = torch.cartesian_prod(nodes, nodes).T
    area = torch.cartesian_prod(weights, weights).prod(1) * r
    noises, all_weights = [], []
    for z in range(len(log_p)):
        others = [k for k in range(len(log_p)) if k != z]
        halves = [(nodes, {others[0]: 1 - nodes}, weights)]  # of y_z, the other y, and the weight
        if len(others) == 2:
            first = r * (1 - t), 1 - r + r * t / 2, r * t / 2
            halves = [
                (first[0], dict(zip(order, first[1:], strict=True)), area) for order in (others, others[::-1])
            ]
        for y_z, y, weight in halves:
            log_t = torch.zeros(len(weight), len(log_p), dtype=torch.float64)
            for k in others:
                log_t[:, k] = torch.log1p(y[k] / (y_z * log_p[k].exp()))
            noises.append(-log_t - log_p)
            all_weights.append(log_p[z].exp() * weight)
    return torch.cat(noises), torch.cat(all_weights)


def rule(toy: Toy, num: int, particles: int = 1) -> Rule:
    """The product over draws and sites, for the guide's laws on the first datum."""
    parts = [
        (name, *one_draw(law.logits[0].detach(), num))
        for name, law in toy.guide.posterior(toy.rows[0]).items()
        for _ in range(particles)
    ]
    sizes = [torch.arange(len(weight)) for *_, weight in parts]
    places = torch.cartesian_prod(*sizes).reshape(-1, len(parts)).T
    weight = torch.stack([w[place] for (*_, w), place in zip(parts, places, strict=True)]).prod(0)
    drawn = [(name, noise[place]) for (name, noise, _), place in zip(parts, places, strict=True)]
    return Rule({name: torch.stack([n for own, n in drawn if own == name]) for name, _ in drawn}, weight)


@contextmanager
def at(nodes: Rule) -> Iterator[None]:
    """Within, the noise of one run of the guide is that of the nodes, one for each datum."""
    sites = iter(nodes.noise.values())
    with pytest.MonkeyPatch.context() as patch:
        for module in (gumbel_softmax, rebar):
            patch.setattr(module, "perturbed", lambda log_p: log_p + next(sites))
        yield


def repeated(row: Batch, num: int) -> Batch:
    """The first datum many times over."""
    assert row.response is not None
    assert row.response_mask is not None
    return Batch(
        row.prompt.expand(num, -1),
        row.prompt_mask.expand(num, -1),
        row.response.expand(num, -1),
        row.response_mask.expand(num, -1),
        max_length=row.max_length,
    )


def surrogates(
    toy: Toy, gradient: Gradient, nodes: Rule, objective: Objective | None = None
) -> tuple[Tensor, Tensor]:
    """The bound and its surrogate at each node, ``(N,)``."""
    batch = repeated(toy.rows[0], len(nodes.weight))
    particles = len(next(iter(nodes.noise.values())))
    run = Run(0.0, gradient.draws(0.0), gradient.copies)
    with at(nodes):
        log = Sample(particles)(toy.model, toy.guide, batch, run)
    return gradient.surrogate(objective or ELBO(), log)


def expected(
    toy: Toy, gradient: Gradient, num: int, particles: int = 1, objective: Objective | None = None
) -> tuple[Tensor, Gradients]:
    """``E[bound]`` and ``E[gradient of the surrogate]`` of the first datum, by quadrature."""
    nodes = rule(toy, num, particles)
    bound, differentiated = surrogates(toy, gradient, nodes, objective)
    return (nodes.weight * bound).sum().detach(), toy.gradients((nodes.weight * differentiated).sum())


def distance(found: Gradients, true: Gradients, prefix: str) -> float:
    return float(sum(((found[n] - g) ** 2).sum() for n, g in true.items() if n.startswith(prefix)) ** 0.5)
