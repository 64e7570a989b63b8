"""Disentanglement, completeness and informativeness."""

from __future__ import annotations

import numpy as np
from scipy.stats import entropy
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from .information import checked


def dci(z: np.ndarray, factors: np.ndarray, seed: int = 0) -> dict[str, float]:
    """By the importance R of each coordinate to a random forest for each factor [Eastwood & Williams 2018, section 2].

    - ``disentanglement``: ``sum_j rho_j (1 - H(R_j. / sum R_j.))``, entropies to the base F, rho the share of a
      coordinate in all importance: 1 where each coordinate matters to one factor;
    - ``completeness``: ``mean_k (1 - H(R_.k / sum R_.k))``, to the base D: 1 where each factor needs one coordinate;
    - ``informativeness``: mean accuracy on held-out data, from that of the most frequent value as 0.

    Args:
        z: values ``(N, D)``.
        factors: ``(N, F)``.
        seed: of the forests and of the split into halves.
    """
    z, factors = checked(z, factors)
    fitted, held = train_test_split(np.arange(len(z)), test_size=0.5, random_state=seed)
    importance, scores = np.zeros((z.shape[1], factors.shape[1])), []
    for k, column in enumerate(factors.T):
        forest = RandomForestClassifier(100, min_samples_leaf=5, max_features=None, random_state=seed).fit(
            z[fitted], column[fitted]
        )
        importance[:, k] = forest.feature_importances_
        chance = float((column[held] == np.bincount(column[fitted]).argmax()).mean())
        scores.append(max(0.0, (forest.score(z[held], column[held]) - chance) / max(1 - chance, 1e-12)))
    return _from_importance(importance) | {"dci/informativeness": float(np.mean(scores))}


def _from_importance(importance: np.ndarray) -> dict[str, float]:
    """Disentanglement and completeness of importances ``(D, F)``."""
    share = importance.sum(1) / max(float(importance.sum()), 1e-12)
    return {
        "dci/disentanglement": float((share * _one_sided(importance.T)).sum()),
        "dci/completeness": float(_one_sided(importance).mean()),
    }


def _one_sided(columns: np.ndarray) -> np.ndarray:
    """``1 - H`` of each column as a law, entropies to the base of its length; 0 of a column without weight."""
    if len(columns) == 1:
        return np.ones(columns.shape[1])
    total = columns.sum(0)
    found = 1 - entropy(columns + 1e-12, base=len(columns))
    return np.where(total > 0, found, 0.0)
