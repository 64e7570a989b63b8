"""The subspace of z that a label lives in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def codes(words: Sequence[str], values: Sequence[str]) -> np.ndarray:
    """``(N, K - 1)``: the K values as corners of a regular simplex around the origin."""
    place = np.array([list(values).index(word) for word in words])
    size = len(values)
    contrasts = np.linalg.qr(np.concatenate([np.ones((size, 1)), np.eye(size)[:, 1:]], 1))[0][:, 1:]
    return np.asarray(contrasts[place])


def matrix_subspace(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The ``(k, D)`` matrix M with orthonormal rows that minimises ``|M z - y|^2 + |z - M^T M z|^2``, both centred.

    The two terms of matrix subspace projection [Li et al. 2020], y in the subspace and nothing of z but y outside of
    it, of a z that is fixed. They add up to ``|z - M^T y|^2``, which makes it a problem of Procrustes:
    ``M = U V^T`` of the singular vectors of ``y^T z``.

    Args:
        z: points, ``(N, D)``.
        y: codes of their labels, ``(N, k)``, k at most D.
    """
    left, _, right = np.linalg.svd((y - y.mean(0)).T @ (z - z.mean(0)), full_matrices=False)
    return np.asarray(left @ right)
