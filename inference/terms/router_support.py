"""Probability kept on what the posterior uses."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..laws import Law, Values
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .term import Term


class RouterSupport(Term):
    """``E_q[max(0, log floor - log p(z|x))]`` in nats per sequence, lowered in the router; the guide is held fixed.

    The expected shortfall of the router's log-probability below a floor, where the posterior is: a strategy that
    some response uses stays within reach of its prompt, and what no response uses, or lies above the floor, is left
    alone, so that unlike ``KL(q || p(z|x))`` it never makes the router as wide as the posterior. Exact where z has a
    finite support, on any draws; otherwise unbiased, in value and gradient.

    Args:
        weight: of the term, a number or a schedule.
        floor: probability of a joint value of the latents (density, of continuous ones), above 0.

    Raises:
        ValueError: a floor that is not above 0 and finite.
    """

    expectations: ClassVar = (Enumerate, Sample)
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def __init__(self, weight: float | Schedule = 1.0, floor: float = 0.01) -> None:
        super().__init__(weight)
        if not 0 < floor < math.inf:
            raise ValueError(f"term RouterSupport: floor must be above 0 and finite, got {floor}")
        self.log_floor = math.log(floor)

    def value(self, log: LogQuantities) -> Tensor:
        values = Values.under(Law.POSTERIOR, log, fixed=True)
        return values.expect((self.log_floor - values.own(Law.PRIOR)).relu())
