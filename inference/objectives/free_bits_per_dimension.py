"""The ELBO with a divergence to the prior that each coordinate has for nothing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities, Site
from .free_bits import FreeBits


class FreeBitsPerDimension(FreeBits):
    """``E_q[log p(y|x,z)] - sum_j max(lambda, mean over the minibatch of KL_j)`` [Kingma et al. 2016].

    Here j runs over the coordinates of all latents, each a Gaussian under q and p; ``KL_j`` is in closed form. Not
    pointwise: which coordinates are free is decided by the minibatch, as in the paper, and each datum bears the
    same penalty. Unbiased in the draws, given the minibatch, where no latent's law depends on another's value.

    Args:
        bits: lambda, in nats per coordinate, at least 0.

    Raises:
        ValueError: negative or not finite bits; in :meth:`check`, particles run one by one; in :meth:`bound`, a
            latent that is not of independent Gaussians.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED
    pointwise: ClassVar = False

    def check(self, expectation: Expectation) -> None:
        assert isinstance(expectation, Sample)
        if expectation.one_by_one:
            raise ValueError(
                "objective FreeBitsPerDimension: it reads the laws of all particles, and expectation Sample keeps one "
                "with one_by_one=true; set it to false, or use FreeBits"
            )

    def bound(self, log: LogQuantities) -> Tensor:
        by_site = [_by_dimension(name, site) for name, site in log.sites.items()]
        return log.expect_q(log.log_lik) - torch.cat(by_site).clamp(min=self.bits).sum()


def _by_dimension(name: str, site: Site) -> Tensor:
    """``(D,)`` mean over draws and data of the KL of each coordinate."""
    posterior, prior = _coordinates(site.posterior), _coordinates(site.prior)
    if not (isinstance(posterior, Normal) and isinstance(prior, Normal)):
        raise ValueError(
            f"objective FreeBitsPerDimension: latent {name} is {type(prior).__name__} under the model and "
            f"{type(posterior).__name__} under the guide; it needs independent Gaussians. Use FreeBits"
        )
    kl = kl_divergence(posterior, prior)
    return kl.reshape(-1, site.posterior.event_shape.numel()).mean(0)


def _coordinates(law: Distribution) -> Distribution:
    return law.base_dist if isinstance(law, Independent) else law
