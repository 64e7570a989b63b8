"""The evidence lower bound."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from .objective import Objective


class ELBO(Objective):
    """``E_q[log p(y,z|x) - log q(z|x,y)] = log p(y|x) - KL(q || p(z|x,y))`` [Jordan et al. 1999].

    Exact where enumerated; where sampled, unbiased in value and, by the pathwise gradient, in gradient.
    """

    expectations: ClassVar = (Enumerate, Sample)

    def bound(self, log: LogQuantities) -> Tensor:
        return log.expect_q(log.log_w)
