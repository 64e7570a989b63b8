"""The ELBO with a divergence to the prior that each latent has for nothing."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Expectation, Sample
from ..log_quantities import LogQuantities
from .objective import Objective


class FreeBits(Objective):
    """``E_q[log p(y|x,z)] - sum_i max(lambda, KL_i)`` over the latents i, datum by datum [after Kingma et al. 2016].

    ``KL_i = E_q[log q(z_i|x,y) - log p(z_i|x)]``, each given the latents before it. Below the ELBO, by at most
    ``lambda`` a latent. Exact where enumerated. Where sampled, KL_i is a mean over S draws, which the maximum makes
    biased upward, at the rate 1/sqrt(S) where KL_i is near lambda;
    :class:`~stratagem.inference.objectives.FreeBitsPerDimension` is without that noise.

    Args:
        bits: lambda, in nats per latent, at least 0.

    Raises:
        ValueError: negative or not finite bits.
    """

    expectations: ClassVar[tuple[type[Expectation], ...]] = (Enumerate, Sample)

    def __init__(self, bits: float = 0.5) -> None:
        if not 0 <= bits < float("inf"):
            raise ValueError(
                f"objective {type(self).__name__}: bits must be finite and not negative, got {bits}"
            )
        self.bits = bits

    def bound(self, log: LogQuantities) -> Tensor:
        kl = [log.expect_q(site.log_q - site.log_prior).clamp(min=self.bits) for site in log.sites.values()]
        return log.expect_q(log.log_lik) - sum(kl)
