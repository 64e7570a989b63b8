"""The separated attribute predictability."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from .information import checked


def sap(z: np.ndarray, factors: np.ndarray, seed: int = 0) -> dict[str, float]:
    """``mean_k S_jk - S_j'k``, S the accuracy of a linear classifier of factor k by one coordinate on held-out data.

    j and j' are the two best coordinates [Kumar et al. 2018, section 3]. The accuracy is counted from that of the most
    frequent value, and as a share of what is left to 1, so that nothing known is 0 and all known is 1.

    Args:
        z: values ``(N, D)``.
        factors: ``(N, F)``.
        seed: of the split into halves.
    """
    z, factors = checked(z, factors)
    fitted, held = train_test_split(np.arange(len(z)), test_size=0.5, random_state=seed)
    scores = np.zeros((z.shape[1], factors.shape[1]))
    scale = z[fitted].std(0)
    scale[scale == 0] = 1.0
    x = (z - z[fitted].mean(0)) / scale
    for k, column in enumerate(factors.T):
        counts = np.bincount(column[fitted])
        chance = float((column[held] == counts.argmax()).mean())
        if (counts > 0).sum() < 2 or chance == 1:
            continue
        for j in range(z.shape[1]):
            found = LogisticRegression(C=1e3, max_iter=1000).fit(x[fitted, j : j + 1], column[fitted])
            scores[j, k] = max(0.0, (found.score(x[held, j : j + 1], column[held]) - chance) / (1 - chance))
    ranked = np.sort(scores, 0)[::-1]
    return {"sap": float((ranked[0] - (ranked[1] if len(ranked) > 1 else 0.0)).mean())}
