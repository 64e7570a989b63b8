"""Expectation maximisation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from .objective import Objective


class EM(Objective):
    """``sum_z r(z) (log p(y,z|x) - log r(z))``, r the posterior ``p(z|x,y)`` held fixed [Dempster et al. 1977].

    The E-step is exact, by enumeration, and made once a batch; the M-step is a few gradient steps
    [Neal & Hinton 1998]. At the first the value and the gradient are those of ``log p(y|x)``, at the others it is a
    lower bound. The guide has no part in it, and is fitted beside it by the term
    :class:`~stratagem.inference.terms.ForwardKL`.

    Args:
        updates: gradient steps on a batch from one posterior, at least 1.

    Raises:
        ValueError: fewer updates than one.
    """

    expectations: ClassVar = (Enumerate,)

    def __init__(self, updates: int = 4) -> None:
        if updates < 1:
            raise ValueError(f"objective EM: updates must be at least 1, got {updates}")
        self.updates = updates

    def bound(self, log: LogQuantities) -> Tensor:
        held = log.log_posterior.detach() if log.run.held is None else log.run.held
        return xlogp(held, log.log_joint - held).sum(0)
