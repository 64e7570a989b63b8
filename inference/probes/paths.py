"""Ways from one point to another."""

from __future__ import annotations

import numpy as np


def linear(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """``(P, steps, D)`` evenly on the straight line between ``(P, D)`` points, the ends included."""
    t = np.linspace(0, 1, steps)[:, None]
    return (1 - t) * first[:, None] + t * last[:, None]


def spherical(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """The same by even angles in the plane of the two, the length going evenly from one's to the other's.

    On a sphere the great circle [Shoemake 1985]. Opposite points are joined by way of a coordinate axis,
    and a point at the origin has the direction of the other.
    """
    lengths = np.stack([np.linalg.norm(first, axis=1), np.linalg.norm(last, axis=1)])  # (2, P)
    u = _unit(np.where(lengths[0, :, None] > 0, first, last))
    v = _unit(np.where(lengths[1, :, None] > 0, last, first))
    along = (u * v).sum(1).clip(-1, 1)
    across = v - along[:, None] * u
    sine = np.linalg.norm(across, axis=1)
    axis = np.eye(u.shape[1])[np.abs(u).argmin(1)]
    turned = axis - (axis * u).sum(1, keepdims=True) * u
    side = _unit(np.where((sine < 1e-9)[:, None], turned, across))
    t = np.linspace(0, 1, steps)
    angle = np.arctan2(sine, along)[:, None] * t  # (P, steps)
    length = (1 - t) * lengths[0, :, None] + t * lengths[1, :, None]
    return length[..., None] * (
        np.cos(angle)[..., None] * u[:, None] + np.sin(angle)[..., None] * side[:, None]
    )


def _unit(points: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.where(length > 0, length, 1))
