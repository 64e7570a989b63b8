"""The contract of a search."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class SearchStep(ABC):
    """A search of B problems in D numbers, each of which starts at the origin with a spread of 1."""

    @abstractmethod
    def propose(self) -> np.ndarray:
        """Points to try, ``(B, P, D)``."""

    @abstractmethod
    def learn(self, points: np.ndarray, rewards: np.ndarray) -> None:
        """Take in the rewards ``(B, P)`` of proposed points."""
