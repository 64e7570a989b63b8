"""The contract of an objective."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from ..log_quantities import LogQuantities
from ..part import Part


class Objective(Part):
    """A per-datum bound as a function of log-quantities.

    A subclass is its formula, :meth:`bound`, and says what it is right for.

    Attributes:
        of_weights: whether it is a function of ``log_w`` alone.
        updates: gradient steps on a batch before the next.
    """

    of_weights: ClassVar[bool] = False
    updates: int = 1

    @abstractmethod
    def bound(self, log: LogQuantities) -> Tensor:
        """``(B,)`` nats per sequence, higher is better, differentiable."""

    def guide_bound(self, log: LogQuantities) -> Tensor:
        """``(B,)``, what the guide raises where that is not :meth:`bound`."""
        return self.bound(log)

    @property
    def shared(self) -> bool:
        """Whether model and guide raise the same bound."""
        return type(self).guide_bound is Objective.guide_bound
