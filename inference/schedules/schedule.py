"""The contract of a weight that changes over a fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

HUNDREDTHS = tuple(hundredths / 100 for hundredths in range(101))
"""Shares of a fit."""


class Schedule(ABC):
    """A weight as a function of the share of the fit that is done, from 0 to 1."""

    @abstractmethod
    def at(self, share: float) -> float:
        """The weight at ``share``."""

    def check(
        self,
        name: str,
        fits: Callable[[float], bool],
        expected: str,
        shares: Iterable[float] = HUNDREDTHS,
    ) -> None:
        """Refuse values that do not fit.

        Args:
            name: of what they are.
            fits: whether one does.
            expected: which do, in words.
            shares: of the fit that are asked.

        Raises:
            ValueError: says which does not, and at which share.
        """
        for share in shares:
            value = self.at(share)
            if not fits(value):
                raise ValueError(f"{name} must be {expected}, got {value} at the share {share} of the fit")
