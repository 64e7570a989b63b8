"""The contract of a weight that changes over a fit."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Schedule(ABC):
    """A weight as a function of the share of the fit that is done, from 0 to 1."""

    @abstractmethod
    def at(self, share: float) -> float:
        """The weight at ``share``."""
