"""Data that agree in a factor."""

from __future__ import annotations

import numpy as np


def groups_of(factors: np.ndarray, measure: str) -> list[list[np.ndarray]]:
    """Of each factor, the places of the data with each of its values, where there are two or more.

    Raises:
        ValueError: fewer than two factors, or one without two data that agree in it.
    """
    if factors.shape[1] < 2:
        raise ValueError(f"disentanglement: {measure} needs two factors or more, got 1")
    found = []
    for k, column in enumerate(factors.T):
        places = [np.flatnonzero(column == value) for value in np.unique(column)]
        found.append([p for p in places if len(p) > 1])
        if not found[-1]:
            raise ValueError(f"disentanglement: {measure}: no two data agree in factor {k}; leave it out")
    return found
