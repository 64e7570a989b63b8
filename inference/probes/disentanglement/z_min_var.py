"""Which factor was held fixed, by the coordinate that varies least."""

from __future__ import annotations

import numpy as np

from .groups import groups_of
from .information import checked


def z_min_var(
    z: np.ndarray, factors: np.ndarray, seed: int = 0, points: int = 800, size: int = 64
) -> dict[str, float]:
    """Accuracy of a majority vote for the factor in which data agree, from the coordinate of the least variance.

    Variances are as shares of those over all data; coordinates that do not vary are left out [Kim & Mnih 2018, sec. 3].
    Half the points vote, half test. Counted from chance, 1/F, as 0.

    Args:
        z: values ``(N, D)``.
        factors: ``(N, F)``, at least two.
        seed: of the points.
        points: that are drawn.
        size: data of each.

    Raises:
        ValueError: fewer than two factors, or one without two data that agree in it.
    """
    z, factors = checked(z, factors)
    groups, num = groups_of(factors, "z_min_var"), factors.shape[1]
    x = z[:, z.std(0) > 1e-9]
    if not x.shape[1]:
        return {"z_min_var": 0.0}
    rng, whole = np.random.default_rng(seed), x.var(0)
    label = rng.integers(num, size=points)
    least = np.empty(points, dtype=int)
    for i, k in enumerate(label):
        chosen = rng.choice(groups[k][rng.integers(len(groups[k]))], size)
        least[i] = (x[chosen].var(0) / whole).argmin()
    half = points // 2
    votes = np.zeros((x.shape[1], num))
    np.add.at(votes, (least[:half], label[:half]), 1)
    accuracy = (votes.argmax(1)[least[half:]] == label[half:]).mean()
    return {"z_min_var": float(max(0.0, (accuracy - 1 / num) / (1 - 1 / num)))}
