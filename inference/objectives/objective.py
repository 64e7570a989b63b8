"""The contract of an objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from ..expectations import Expectation
from ..log_quantities import LogQuantities


class Objective(ABC):
    """A per-datum bound as a function of log-quantities.

    A subclass is its formula: :meth:`bound`, and in :attr:`expectations` the ways of taking ``E_q`` for which
    it is right.
    """

    expectations: ClassVar[tuple[type[Expectation], ...]]

    @abstractmethod
    def bound(self, log: LogQuantities) -> Tensor:
        """``(B,)`` nats per sequence, higher is better, differentiable."""
