"""The evidence lower bound."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from ..schedules import Constant, Schedule, finite, scheduled
from .objective import Objective


class ELBO(Objective):
    """``E_q[log p(y,z|x) - log q(z|x,y)] = log p(y|x) - KL(q || p(z|x,y))`` [Jordan et al. 1999].

    Exact where enumerated; where sampled, unbiased in value and, by the pathwise gradient, in gradient.

    Args:
        beta: of ``E_q[log p(y|x,z)] - beta KL(q || p(z|x))``, a number or a schedule over the fit, at least 0; the
            beta-VAE's above 1, below ``log p(y|x)`` from 1 on [Higgins et al. 2017].

    Raises:
        ValueError: a beta that is negative or not finite, at any share of the fit.
    """

    expectations: ClassVar = (Enumerate, Sample)

    def __init__(self, beta: float | Schedule = 1.0) -> None:
        self.beta = scheduled(beta)
        self.beta.check("objective ELBO: beta", finite, "finite and not negative")

    @property
    def of_weights(self) -> bool:
        return isinstance(self.beta, Constant) and self.beta.value == 1

    def bound(self, log: LogQuantities) -> Tensor:
        beta = self.beta.at(log.run.share)
        return log.expect_q(log.log_lik + beta * (log.log_prior - log.log_q) if beta else log.log_lik)
