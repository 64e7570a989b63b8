"""Straight lines between given points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .schedule import Schedule


class Piecewise(Schedule):
    """Lines between ``(share, weight)`` points, level before the first and after the last.

    Two points with one share make a jump, the second holding from there on.

    Raises:
        ValueError: no points, points that are not pairs, or shares out of order or outside [0, 1].
    """

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        if not points or any(len(point) != 2 for point in points):
            raise ValueError(f"schedule piecewise: expected points [share, weight], got {list(points)}")
        self.shares, self.weights = [p[0] for p in points], [p[1] for p in points]
        if self.shares != sorted(self.shares) or not 0 <= self.shares[0] <= self.shares[-1] <= 1:
            raise ValueError(f"schedule piecewise: expected shares in order and in [0, 1], got {self.shares}")

    def at(self, share: float) -> float:
        if share in self.shares:
            return self.weights[len(self.shares) - 1 - self.shares[::-1].index(share)]
        return float(np.interp(share, self.shares, self.weights))
