"""The contract of a weighted term beside the objective."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from ..log_quantities import LogQuantities
from ..part import Part
from ..schedules import Constant, Schedule


class Term(Part):
    """A per-datum quantity that is raised (or lowered, where :attr:`sign` is -1) beside the bound.

    Args:
        weight: of the term, at least 0, a number or a schedule over the fit; the sign is the term's own.

    Raises:
        ValueError: a weight that is negative or not finite, at the start or at the end.
    """

    sign: ClassVar[int] = 1

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        self.weight = weight if isinstance(weight, Schedule) else Constant(weight)
        for share in (0.0, 1.0):
            if not 0 <= self.weight.at(share) < float("inf"):
                raise ValueError(
                    f"term {type(self).__name__}: weight must be finite and not negative, got "
                    f"{self.weight.at(share)}"
                )

    def signed_weight(self, share: float) -> float:
        """What the term's value is multiplied by when ``share`` of the fit is done."""
        return self.sign * self.weight.at(share)

    @abstractmethod
    def value(self, log: LogQuantities) -> Tensor:
        """``(B,)``, differentiable, before weight and sign."""
