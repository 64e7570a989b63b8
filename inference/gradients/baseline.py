"""The contract of a baseline of the score-function gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from ..expectations import Sample
from ..log_quantities import LogQuantities

Bound = Callable[[LogQuantities], Tensor]


class Baseline(nn.Module, ABC):
    """What is taken off the bound before it multiplies the score of a draw.

    There is no bias by a baseline that is no function of that draw.
    """

    def check(self, expectation: Sample) -> None:
        """Refuse a number of draws that it is not made for.

        Raises:
            ValueError: says what would work.
        """

    def bind(self, model: nn.Module) -> None:
        """Build what depends on the model, before the first step."""

    @abstractmethod
    def forward(self, value: Tensor, bound: Bound, log: LogQuantities) -> tuple[Tensor, Tensor]:
        """What is left of the bound, and what the baseline's own parameters raise.

        Args:
            value: the bound ``(B,)``, without gradient.
            bound: of log-quantities.
            log: of the S draws, without gradient.

        Returns:
            Without gradient, ``(S, B)`` or what broadcasts to it; and ``(B,)`` or 0.
        """
