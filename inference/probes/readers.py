"""Reading a label from points, by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..labels import UNKNOWN


def places_of(words: Sequence[str], label: str, folds: int, who: str) -> tuple[np.ndarray, np.ndarray]:
    """Which data have a label, ``(N,)``, and the place of its value for those that have.

    Raises:
        ValueError: a value of fewer data than folds.
    """
    known = np.array([word != UNKNOWN for word in words])
    values, y = np.unique(np.array(words)[known], return_inverse=True)
    least = int(np.bincount(y).min())
    if least < folds:
        raise ValueError(
            f"probe {who}: label {label}: {values[np.bincount(y).argmin()]} is that of {least} data, fewer than the "
            f"{folds} folds; give fewer folds, more data, or leave the label out"
        )
    return known, y


def accuracy(reader: Any, points: np.ndarray, y: np.ndarray, folds: int, seed: int) -> float:
    """Share of the data whose label a reader of standardised points has right, when fitted to the other folds."""
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = cross_val_predict(make_pipeline(StandardScaler(), reader), points, y, cv=split)
    return float((found == y).mean())


def error_of(share: float, count: int) -> float:
    """Standard error of a share of independent data."""
    return float(np.sqrt(share * (1 - share) / count))
