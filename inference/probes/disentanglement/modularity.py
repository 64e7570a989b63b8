"""Does each coordinate say something of one factor alone?"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from .information import binned, checked, mutual_information

LEVEL = 1e-3
"""Of the test whether a coordinate says anything of a factor."""


def modularity(z: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """``mean_j 1 - sum_{k != k*} I(z_j; v_k)^2 / (I(z_j; v_k*)^2 (F - 1))``, k* the factor j says most of.

    1 where each coordinate knows one factor [Ridgeway & Mozer 2018, eq. 2]. Over the coordinates that say anything, by
    a test of independence at one in a thousand; 0 where none does.

    Args:
        z: values ``(N, D)``.
        factors: ``(N, F)``, at least two.

    Raises:
        ValueError: fewer than two factors.
    """
    z, factors = checked(z, factors)
    if factors.shape[1] < 2:
        raise ValueError("disentanglement: modularity needs two factors or more, got 1")
    codes = binned(z)
    told = mutual_information(codes, factors)
    size_z, size_v = (np.array([len(np.unique(c)) for c in table.T]) for table in (codes, factors))
    freedom = np.outer(size_z - 1, size_v - 1)
    speaks = (2 * len(z) * told > chi2.ppf(1 - LEVEL, np.maximum(freedom, 1))).any(1)
    squared = told**2
    largest = squared.max(1)
    if not speaks.any():
        return {"modularity": 0.0}
    rest = (squared.sum(1) - largest)[speaks] / (largest[speaks] * (factors.shape[1] - 1))
    return {"modularity": float((1 - rest).mean())}
