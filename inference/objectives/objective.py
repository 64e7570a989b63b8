"""The contract of an objective."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from ..expectations import Expectation
from ..log_quantities import LogQuantities
from ..part import Part


class Objective(Part):
    """A per-datum bound as a function of log-quantities.

    A subclass is its formula, :meth:`bound`, and says what it is right for.

    Attributes:
        updates: gradient steps on a batch before the next.
    """

    updates: int = 1

    @property
    def of_weights(self) -> bool:
        """Whether it is a function of ``log_w`` alone; a subclass may say so by a class attribute."""
        return False

    def check(self, expectation: Expectation) -> None:
        """Refuse an expectation of the right kind whose settings it cannot have.

        Raises:
            ValueError: says what would work.
        """

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
