"""Values that are weights of strategies."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-3
"""How far weights may be from a point of the simplex."""


def check_weights(z: Tensor, size: int, where: str, mend: str = "") -> Tensor:
    """``z`` itself, ``(*batch, size)``, where it is weights.

    Raises:
        ValueError: another number of weights, a negative one, or a sum that is not 1; it begins with ``where`` and ends
            with ``mend``.
    """
    if z.shape[-1:] != (size,):
        raise ValueError(f"{where}: expected z of shape (*, {size}), got {tuple(z.shape)}{mend}")
    if not ((z >= -ROUNDING).all(-1) & ((z.sum(-1) - 1).abs() <= ROUNDING)).all():
        raise ValueError(
            f"{where}: {size} weights of strategies must not be negative and must sum to 1; got weights from "
            f"{float(z.min()):.4g} on, sums from {float(z.sum(-1).min()):.4g} to {float(z.sum(-1).max()):.4g}{mend}"
        )
    return z


def nearest_weights(point: Tensor) -> Tensor:
    """The weights nearest to a point ``(*batch, size)`` in the Euclidean distance [Duchi et al. 2008]."""
    ranked = point.sort(-1, descending=True).values
    excess = (ranked.cumsum(-1) - 1) / torch.arange(1, point.shape[-1] + 1, device=point.device)
    kept = (ranked > excess).sum(-1, keepdim=True)
    weights = (point - excess.gather(-1, kept - 1)).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)
