"""The ELBO with the divergence to the prior held at a target."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from ..schedules import Constant, Schedule
from .objective import Objective


class Capacity(Objective):
    """``E_q[log p(y|x,z)] - gamma |KL(q || p(z|x)) - C|`` [Burgess et al. 2018].

    C is the information in nats that z is to carry of each response: a target KL, that a schedule may raise. Exact
    where enumerated. Where sampled the KL is a mean over S draws, and the penalty biased upward at the rate
    1/sqrt(S) where the KL is at its target, and vanishingly away from it.

    Args:
        gamma: what a nat away from the target costs, at least 0.
        capacity: C, a number or a schedule over the fit, at least 0.

    Raises:
        ValueError: a gamma or a capacity that is negative or not finite.
    """

    expectations: ClassVar = (Enumerate, Sample)

    def __init__(self, gamma: float = 10.0, capacity: float | Schedule = 1.0) -> None:
        self.gamma, self.capacity = gamma, capacity if isinstance(capacity, Schedule) else Constant(capacity)
        for name, number in (
            ("gamma", gamma),
            ("capacity", self.capacity.at(0.0)),
            ("capacity", self.capacity.at(1.0)),
        ):
            if not 0 <= number < float("inf"):
                raise ValueError(f"objective Capacity: {name} must be finite and not negative, got {number}")

    def bound(self, log: LogQuantities) -> Tensor:
        kl = log.expect_q(log.log_q - log.log_prior)
        return log.expect_q(log.log_lik) - self.gamma * (kl - self.capacity.at(log.run.share)).abs()
