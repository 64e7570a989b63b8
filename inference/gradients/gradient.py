"""The contract of a gradient estimator."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from torch import Tensor, nn

from ..expectations import Expectation
from ..log_quantities import LogQuantities
from ..objectives import Objective
from ..part import Part


class Gradient(nn.Module, Part):
    """How the expectation of an objective is differentiated, in the model and in the guide.

    A subclass says what it is made for, and gives :meth:`surrogate`. What it learns itself (a baseline) are
    parameters of its own.

    Attributes:
        copies: of each particle that :meth:`draws` fills.
    """

    copies: ClassVar[int] = 1

    def draws(self, share: float) -> AbstractContextManager[Any] | None:  # noqa: ARG002
        """The context that the guide draws in when ``share`` of the fit is done; None for plain draws."""
        return None

    def check(self, objective: Objective, expectation: Expectation) -> None:
        """Refuse an objective or a number of particles that the estimator is not made for.

        Raises:
            ValueError: says what would work.
        """

    def bind(self, model: nn.Module) -> None:
        """Build what depends on the model, before the first step."""

    def drawn(self, log: LogQuantities) -> LogQuantities:
        """One copy of each particle: what terms are functions of."""
        return log

    @abstractmethod
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        """The bound ``(B,)``, and what is differentiated in its place ``(B,)``."""
