"""Means with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def mean_se(values: Tensor | Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error over independent data; the error of one datum is unknown and given as 0."""
    x = torch.as_tensor(values, dtype=torch.float64)
    return float(x.mean()), float(x.std() / math.sqrt(len(x))) if len(x) > 1 else 0.0


def ratio_se(top: Tensor, bottom: Tensor) -> tuple[float, float]:
    """``mean(top) / mean(bottom)`` and its standard error by the delta method."""
    top, bottom = top.double(), bottom.double()
    ratio = float(top.mean() / bottom.mean())
    return ratio, mean_se((top - ratio * bottom) / bottom.mean())[1]


def named(name: str, value_se: tuple[float, float]) -> dict[str, float]:
    """``{name: value, name_se: error}``."""
    return {name: value_se[0], f"{name}_se": value_se[1]}
