"""The ELBO with a divergence to the prior that is had for nothing."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from .objective import Objective


class KLThreshold(Objective):
    """``E_q[log p(y|x,z)] - max(KL(q || p(z|x)), threshold)``: free bits for all latents together, datum by datum.

    Below the ELBO, by at most the threshold. Exact where enumerated. Where sampled the KL is a mean over S draws,
    which the maximum makes biased upward, at the rate 1/sqrt(S) where the KL is near the threshold.

    Args:
        nats: the threshold, at least 0.

    Raises:
        ValueError: negative or not finite nats.
    """

    expectations: ClassVar = (Enumerate, Sample)

    def __init__(self, nats: float = 1.0) -> None:
        if not 0 <= nats < float("inf"):
            raise ValueError(f"objective KLThreshold: nats must be finite and not negative, got {nats}")
        self.nats = nats

    def bound(self, log: LogQuantities) -> Tensor:
        kl = log.expect_q(log.log_q - log.log_prior)
        return log.expect_q(log.log_lik) - kl.clamp(min=self.nats)
