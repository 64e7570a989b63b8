"""The guide fitted to the exact posterior."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from .term import Term


class ForwardKL(Term):
    """``KL(p(z|x,y) || q(z|x,y))`` in nats per sequence, lowered in q alone; exact by enumeration.

    The posterior is held fixed, so that the guide follows the model and never pulls it.
    """

    expectations: ClassVar = (Enumerate,)
    sign: ClassVar = -1

    def value(self, log: LogQuantities) -> Tensor:
        target = log.log_posterior.detach()
        return xlogp(target, target - log.log_q).sum(0)
