"""Which factor was held fixed, by differences of values."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from .groups import groups_of
from .information import checked


def z_diff(
    z: np.ndarray, factors: np.ndarray, seed: int = 0, points: int = 1000, pairs: int = 64
) -> dict[str, float]:
    """Accuracy of a linear classifier that tells the factor in which pairs agree from the mean of ``|z - z'|``.

    Half the points fit it, half test it; a point is a mean over pairs that agree in one factor [Higgins et al. 2017,
    section 3]. Counted from chance, 1/F, as 0.

    Args:
        z: values ``(N, D)``.
        factors: ``(N, F)``, at least two.
        seed: of the pairs.
        points: that are drawn.
        pairs: of each.

    Raises:
        ValueError: fewer than two factors, or one without two data that agree in it.
    """
    z, factors = checked(z, factors)
    groups, num = groups_of(factors, "z_diff"), factors.shape[1]
    rng = np.random.default_rng(seed)
    scale = z.std(0)
    x = z / np.where(scale > 0, scale, 1.0)
    label = rng.integers(num, size=points)
    rows = np.empty((points, z.shape[1]))
    for i, k in enumerate(label):
        chosen = [
            rng.choice(groups[k][g], 2, replace=False) for g in rng.integers(len(groups[k]), size=pairs)
        ]
        first, second = np.array(chosen).T
        rows[i] = np.abs(x[first] - x[second]).mean(0)
    half = points // 2
    found = LogisticRegression(C=1e3, max_iter=2000).fit(rows[:half], label[:half])
    accuracy = found.score(rows[half:], label[half:])
    return {"z_diff": float(max(0.0, (accuracy - 1 / num) / (1 - 1 / num)))}
