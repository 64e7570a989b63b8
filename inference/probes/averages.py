"""Figures that are means over texts."""

from __future__ import annotations

import numpy as np
import torch

from ..evaluation.statistics import mean_se, named


def averaged(name: str, values: np.ndarray, text: np.ndarray | None = None) -> dict[str, float]:
    """``{name: mean, name_se: error}`` of values ``(R,)``.

    Args:
        name: of the figure.
        values: numbers, or whether something is so.
        text: which text each value is of, ``(R,)``, as many of each; the error is that over the texts. Each of its own
            where not given.
    """
    each = np.asarray(values, dtype=float)
    if text is not None:
        place = np.unique(text, return_inverse=True)[1]
        each = np.bincount(place, each) / np.bincount(place)
    return named(name, mean_se(torch.from_numpy(each)))
