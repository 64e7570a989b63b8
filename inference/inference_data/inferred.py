"""Draws of the latents of N data, and what model and guide say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..evaluation import Posteriors
from ..log_quantities import xlogp

DRAWS = 100
"""Of the posterior and of the router, for each datum."""

SPREAD = 1e-6
"""Nats by which draws of what is the same at every draw differ: ArviZ's Pareto smoothing takes no constants."""


@dataclass(frozen=True)
class Inferred:
    """The latents of N data, in nats per sequence.

    Attributes:
        exact: whether z is enumerable as a whole, and the draws are of the exact posterior; else of the guide.
        sizes: of each enumerable site the number of its values, in the program's order. The P joint values have the
            first site changing fastest.
        draws: by site ``(S, N, *event)``.
        log_marginal: ``log p(y|x)``, or an estimate that is too low in the mean, ``(N,)``.
        stats: ``(N,)`` by name.
        posterior: ``log p(z|x,y)`` of the joint values, ``(N, P)``; self-normalised where not exact; None where no
            site is enumerable.
        guide: ``log q(z|x,y)``, ``(N, P)``; where exact.
        router: ``log p(z|x)``, ``(N, P)``; where exact.
        log_weight: ``log p(y,z|x)`` less the log-density of the law that the draws are of, ``(S, N)``.
        log_q: ``log q(z|x,y)`` of the guide at the draws, ``(S, N)``; None where not known.
        router_draws: of the router, by site ``(S, N, *event)``; empty where there are none.
    """

    exact: bool
    sizes: Mapping[str, int]
    draws: Mapping[str, Tensor]
    log_marginal: Tensor
    stats: Mapping[str, Tensor]
    log_weight: Tensor
    posterior: Tensor | None = None
    guide: Tensor | None = None
    router: Tensor | None = None
    log_q: Tensor | None = None
    router_draws: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def log_p(self) -> Tensor | None:
        """``log p(y,z|x)`` at the draws, ``(S, N)``; None where not known."""
        if self.posterior is not None and self.exact:
            at = self.posterior.gather(1, join(self.draws, self.sizes).T)  # (N, S)
            return at.T + self.log_marginal
        return None if self.log_q is None else self.log_weight + self.log_q

    @property
    def num_draws(self) -> int:
        """S."""
        return len(self.log_weight)

    @property
    def num_values(self) -> int:
        """P."""
        return math.prod(self.sizes.values())


def inferred(seen: Posteriors, sizes: Mapping[str, int], draws: int = DRAWS) -> Inferred:
    """Of per-datum quantities that there are.

    Args:
        seen: the quantities.
        sizes: of each enumerable site the number of its values, in the program's order.
        draws: S where z is enumerable; elsewhere they are those of ``seen``.
    """
    if seen.posterior is not None and seen.router is not None and seen.amortized is not None:
        posterior, guide, router = (p.double().log() for p in (seen.posterior, seen.amortized, seen.router))
        return enumerated(posterior, guide, router, seen.log_marginal, seen.log_base, sizes, draws)
    assert seen.draws is not None
    assert seen.log_weight is not None
    stats = {"log_p_base": seen.log_base, "information": seen.information, "kl_router": seen.kl_router}
    return sampled(seen.draws, seen.log_weight, seen.log_marginal, stats, sizes)


def enumerated(
    posterior: Tensor,
    guide: Tensor,
    router: Tensor,
    log_marginal: Tensor,
    log_base: Tensor,
    sizes: Mapping[str, int],
    draws: int,
) -> Inferred:
    """Where z is enumerable: S draws of the exact posterior and of the router, of log-laws ``(N, P)``."""
    stats = {
        "log_p_base": log_base,
        "information": xlogp(posterior, posterior - router).sum(1),
        "kl_router": xlogp(guide, guide - router).sum(1),
        "posterior_gap": xlogp(posterior, posterior - guide).sum(1),
    }
    z = torch.multinomial(posterior.exp(), draws, replacement=True)  # (N, S)
    log_q = guide.gather(1, z).T.clamp_min(math.log(torch.finfo(torch.float32).tiny))
    of_router = torch.multinomial(router.exp(), draws, replacement=True)
    return Inferred(
        True,
        sizes,
        split(z.T, sizes),
        log_marginal,
        stats,
        spread(log_marginal, draws),
        posterior,
        guide,
        router,
        log_q,
        split(of_router.T, sizes),
    )


def sampled(
    draws: Mapping[str, Tensor],
    log_weight: Tensor,
    log_marginal: Tensor,
    stats: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    log_q: Tensor | None = None,
) -> Inferred:
    """Elsewhere: S weighted draws of the guide."""
    posterior = None
    if sizes:
        values = torch.arange(math.prod(sizes.values()))
        here = join(draws, sizes)[..., None] == values  # (S, N, P)
        posterior = (log_weight.double().softmax(0)[..., None] * here).sum(0).log()
    return Inferred(False, sizes, draws, log_marginal, stats, log_weight, posterior=posterior, log_q=log_q)


def spread(value: Tensor, draws: int) -> Tensor:
    """``(draws, N)`` of ``(N,)``: the same at every draw, but for :data:`SPREAD`, with the mean as it is."""
    return value.double() + SPREAD * torch.linspace(-1, 1, draws, dtype=torch.float64)[:, None]


def split(joint: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The value of each site in joint values, the first site changing fastest."""
    out = {}
    for name, size in sizes.items():
        out[name], joint = joint % size, joint // size
    return out


def join(draws: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
    """Joint values of the enumerable sites, the first changing fastest."""
    joint, place = torch.zeros((), dtype=torch.long), 1
    for name, size in sizes.items():
        joint, place = joint + place * draws[name].long(), place * size
    return joint
