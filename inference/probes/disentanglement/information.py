"""Mutual information of coordinates and factors."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import mutual_info_score

BINS = 20


def checked(z: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values ``(N, D)`` and factors ``(N, F)`` as whole numbers from 0, a column each.

    Raises:
        ValueError: other shapes, values that are not finite, or a factor that is the same everywhere.
    """
    z, factors = np.asarray(z, dtype=np.float64), np.asarray(factors)
    if z.ndim != 2 or factors.ndim != 2 or len(z) != len(factors) or not z.size or not factors.size:
        raise ValueError(
            "disentanglement: expected z of shape (N, D) and factors of shape (N, F), "
            f"got {z.shape} and {factors.shape}"
        )
    if not np.isfinite(z).all():
        raise ValueError("disentanglement: expected z that is finite")
    columns = [np.unique(column, return_inverse=True)[1] for column in factors.T]
    for place, column in enumerate(columns):
        if column.max() == 0:
            raise ValueError(f"disentanglement: factor {place} is the same everywhere; leave it out")
    return z, np.stack(columns, 1)


def binned(z: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Each coordinate cut into bins of equal width over its range, ``(N, D)``, numbered from 0."""
    edges = [np.histogram_bin_edges(column, bins)[1:-1] for column in z.T]
    return np.stack([np.digitize(column, e) for column, e in zip(z.T, edges, strict=True)], 1)


def mutual_information(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """``I(z_j; v_k)`` in nats, ``(D, F)``, of whole numbers, by their frequencies."""
    return np.array([[mutual_info_score(c, v) for v in factors.T] for c in codes.T])


def entropies(factors: np.ndarray) -> np.ndarray:
    """``H(v_k)`` in nats, ``(F,)``."""
    return np.array([mutual_info_score(v, v) for v in factors.T])
