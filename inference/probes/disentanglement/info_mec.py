"""Modularity, compactness and explicitness in units of information."""

from __future__ import annotations

import numpy as np
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from .information import checked, entropies, mutual_information

ACTIVE = 0.05
"""Share of a factor's entropy that a coordinate has to tell to count."""

FEW = 32
"""Different values of a coordinate, up to which its information is by frequencies."""


def info_mec(z: np.ndarray, factors: np.ndarray, seed: int = 0) -> dict[str, float]:
    """InfoM, InfoC and InfoE [Hsu et al. 2023, section 4].

    With ``n_jk = I(z_j; v_k) / H(v_k)``, over the coordinates that tell 0.05 of some factor:

    - ``info_m``: ``(mean_j max_k n_jk / sum_k n_jk - 1/F) / (1 - 1/F)``: each coordinate tells one factor;
    - ``info_c``: ``(mean_k max_j n_jk / sum_j n_jk - 1/D) / (1 - 1/D)``: each factor is told by one coordinate;
    - ``info_e``: ``mean_k 1 - H_lin(v_k | z) / H(v_k)``, H_lin the loss of logistic regression: what a linear reader
      knows of the factors.

    Information is by frequencies where a coordinate has few values, else by nearest neighbours [Kraskov et al. 2004].
    All are 0 where no coordinate tells anything.

    Args:
        z: values ``(N, D)``.
        factors: ``(N, F)``.
        seed: of the estimate by nearest neighbours.
    """
    z, factors = checked(z, factors)
    share = _information(z, factors, seed) / entropies(factors)
    share = share[share.max(1) >= ACTIVE]
    explicit = float(np.mean([_explicit(z, column) for column in factors.T]))
    if not len(share):
        return {"info_m": 0.0, "info_c": 0.0, "info_e": explicit}
    return {"info_m": _one_each(share), "info_c": _one_each(share.T), "info_e": explicit}


def _information(z: np.ndarray, factors: np.ndarray, seed: int) -> np.ndarray:
    out = np.empty((z.shape[1], factors.shape[1]))
    for j, column in enumerate(z.T):
        values, code = np.unique(column, return_inverse=True)
        if len(values) <= FEW:
            out[j] = mutual_information(code[:, None], factors)[0]
        else:
            out[j] = [mutual_info_classif(column[:, None], v, random_state=seed)[0] for v in factors.T]
    return out


def _one_each(share: np.ndarray) -> float:
    """How much of each row lies in one place, 0 where it is spread evenly."""
    total = share.sum(1)
    kept = share[total > 0] / total[total > 0, None]
    least = 1 / share.shape[1]
    return 1.0 if share.shape[1] == 1 else float((kept.max(1).mean() - least) / (1 - least))


def _explicit(z: np.ndarray, column: np.ndarray) -> float:
    scale = z.std(0)
    x = (z - z.mean(0)) / np.where(scale > 0, scale, 1.0)
    found = LogisticRegression(C=1e3, max_iter=2000).fit(x, column)
    entropy = float(entropies(column[:, None])[0])
    return max(0.0, 1 - float(log_loss(column, found.predict_proba(x))) / entropy)
