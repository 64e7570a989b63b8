"""The laws of guide and router over a minibatch: each datum's values under every datum's law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from .expectations import site_log_prob
from .log_quantities import LogQuantities, Site, xlogp


class Law(Enum):
    """Of the latents of a datum."""

    POSTERIOR = "q(z|x,y)"
    PRIOR = "p(z|x)"

    def of(self, site: Site) -> TorchDistribution:
        """The law of a site, as it was run."""
        return site.posterior if self is Law.POSTERIOR else site.prior


@dataclass(frozen=True)
class Values:
    """Values of the latents that an expectation under one law a datum is taken over.

    All of them, each with its probability, where the support is finite: exact, and needing no draws, so that it
    holds for any expectation and gradient. Otherwise reparameterised draws, as many a datum as there are particles,
    apart from those that the model reads: unbiased, in value and by autograd in gradient, whatever the gradient of
    the objective does with its own.

    Attributes:
        log: the log-quantities of the minibatch.
        law: that the expectation is under.
        z: ``(S, B, *event)`` of each latent; None for a finite support.
        fixed: whether no gradient flows into that law through the expectation.
    """

    log: LogQuantities
    law: Law
    z: Mapping[str, Tensor] | None
    fixed: bool = False

    @classmethod
    def under(cls, law: Law, log: LogQuantities, fixed: bool = False) -> Values:
        """The values that an expectation under ``law`` needs, with that law held ``fixed`` or not.

        Raises:
            ValueError: a latent that is neither of finite support, as all others, nor reparameterised; or a law
                that depends on the draws of other latents.
        """
        if log.enumerated or all(law.of(site).has_enumerate_support for site in log.sites.values()):
            return cls(log, law, None, fixed)
        z = {}
        for name, at in laws_given_datum(log, law).items():
            if not at.has_rsample:
                raise ValueError(
                    f"site {name}: {law.value} is {type(at).__name__}, expected laws that are all reparameterised or "
                    "all of finite support; leave out terms over the minibatch"
                )
            z[name] = at.rsample().detach() if fixed else at.rsample()
        return cls(log, law, z, fixed)

    def own(self, law: Law) -> Tensor:
        """Log-density of a datum's values under its own law, ``(P, B)``; raises as :func:`laws_given_datum`."""
        if self.z is None:
            return table(self.log, law)
        parts = [at.log_prob(self.z[name]) for name, at in laws_given_datum(self.log, law).items()]
        return sum(parts[1:], parts[0])

    def cross(self, law: Law) -> Tensor:
        """Log-density of the values of datum b under the law of datum j, ``(P, B, B)`` at ``[p, b, j]``.

        ``(P, 1, B)`` for a finite support, whose values are those of every datum. Raises as
        :func:`laws_given_datum`.
        """
        if self.z is None:
            return table(self.log, law)[:, None]
        parts = [_all_pairs(at, self.z[name]) for name, at in laws_given_datum(self.log, law).items()]
        return sum(parts[1:], parts[0])

    def mean_law(self, law: Law) -> Tensor:
        """``log (1/B) sum_j`` of the densities in :meth:`cross`, ``(P, B)`` or ``(P, 1)``."""
        crossed = self.cross(law)
        return crossed.logsumexp(-1) - math.log(crossed.shape[-1])

    def expect(self, values: Tensor) -> Tensor:
        """The expectation of ``values``, ``(P, B)`` or ``(P, 1)``, for each datum: ``(B,)``."""
        if self.z is not None:
            return values.mean(0)
        log_p = self.own(self.law)
        return xlogp(log_p.detach() if self.fixed else log_p, values).sum(0)


def stacked(z: Mapping[str, Tensor]) -> Tensor:
    """The coordinates of all latents, ``(S, B, D)`` of ``(S, B, *event)`` each."""
    return torch.cat([at.reshape(*at.shape[:2], -1) for at in z.values()], -1)


def _all_pairs(law: TorchDistribution, z: Tensor) -> Tensor:
    at = z.transpose(0, 1).unsqueeze(2)  # (B, S, 1, *event), against a law of batch shape (S, B)
    return law.log_prob(at).transpose(0, 1)


def laws(log: LogQuantities, law: Law) -> dict[str, TorchDistribution]:
    """The law of each latent, of batch shape ``(S, B)``."""
    return {name: law.of(site).expand(log.log_q.shape) for name, site in log.sites.items()}


def laws_given_datum(log: LogQuantities, law: Law) -> dict[str, TorchDistribution]:
    """As :func:`laws`, where they are laws given the datum alone, which any datum's values may be put in.

    Raises:
        ValueError: a law given the draws of other latents, or, of several, in a single particle, one that may be.
    """
    for name, site in log.sites.items():
        at = law.of(site)
        if len(log.sites) == 1 or len(at.batch_shape) == 1:
            continue
        if at.batch_shape[0] == 1:
            raise ValueError(
                f"site {name}: with one particle it cannot be told whether {law.value} depends on the draws of "
                "other latents, which a term over the minibatch cannot have; give the expectation num_particles=2 "
                "or more, and one_by_one=false"
            )
        with torch.no_grad():
            log_p = site_log_prob(name, at, site.z[:1], at.batch_shape)
        if not torch.allclose(log_p, log_p[:1].expand_as(log_p), rtol=1e-5, atol=1e-6):
            raise ValueError(
                f"site {name}: {law.value} differs between particles, so that it depends on the draws of other "
                "latents; a term over the minibatch needs laws given the datum alone, or expectation Enumerate"
            )
    return laws(log, law)


def table(log: LogQuantities, law: Law) -> Tensor:
    """Log-probabilities of all joint values of latents of finite support, ``(P, B)``, the first changing fastest.

    Raises:
        ValueError: not enumerated, and as :func:`laws_given_datum`.
    """
    if log.enumerated:
        return log.log_q if law is Law.POSTERIOR else log.log_prior
    joint = torch.zeros(1, 1, device=log.log_q.device)
    for at in laws_given_datum(log, law).values():
        log_p = at.log_prob(at.enumerate_support(expand=False))[:, 0]  # (K, B), particles being alike
        joint = (log_p[:, None] + joint).flatten(0, 1)
    return joint


def diagonal_normals(log: LogQuantities, law: Law) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of Gaussian latents with independent coordinates, ``(S, B, D)`` each.

    D runs over the coordinates of all latents.

    Raises:
        ValueError: a law that is not such a Gaussian.
    """
    means, scales = [], []
    for name, at in laws(log, law).items():
        normal = at.base_dist if isinstance(at, dist.Independent) else at
        if not isinstance(normal, torch.distributions.Normal) or at.event_dim > 1:
            raise ValueError(
                f"site {name}: {law.value} is {type(normal).__name__} with {at.event_dim} event dimensions, expected "
                "Normal, or a vector of them by .to_event(1); use such a latent or leave out the term"
            )
        means.append(normal.loc.reshape(*at.batch_shape, -1))
        scales.append(normal.scale.reshape(*at.batch_shape, -1))
    return torch.cat(means, -1), torch.cat(scales, -1)


def draw_coordinates(log: LogQuantities, law: Law) -> Tensor:
    """Reparameterised draws of Gaussian latents, ``(S, B, D)``; raises as :func:`diagonal_normals`."""
    mean, scale = diagonal_normals(log, law)
    return mean + scale * torch.randn_like(mean)


def cross_by_dimension(log: LogQuantities, law: Law, z: Tensor) -> Tensor:
    """Log-density of each coordinate of ``z`` ``(S, B, D)`` under the law of datum j: ``(S, B, B, D)``.

    Raises:
        ValueError: as :func:`laws_given_datum` and :func:`diagonal_normals`.
    """
    laws_given_datum(log, law)
    mean, scale = diagonal_normals(log, law)
    return dist.Normal(mean[:, None], scale[:, None]).log_prob(z[:, :, None])
