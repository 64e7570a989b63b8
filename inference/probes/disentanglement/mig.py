"""The mutual information gap."""

from __future__ import annotations

import numpy as np

from .information import binned, checked, entropies, mutual_information


def mig(z: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """``mean_k (I(z_j; v_k) - I(z_j'; v_k)) / H(v_k)``, j and j' the two most informative coordinates.

    1 where each factor is in one coordinate and in no other [Chen et al. 2018, eq. 6]; coordinates cut into 20 bins.
    Of a single coordinate, the second is nothing.

    Args:
        z: values ``(N, D)``.
        factors: ``(N, F)``, each with two values or more.
    """
    z, factors = checked(z, factors)
    share = np.sort(mutual_information(binned(z), factors), 0)[::-1] / entropies(factors)
    second = share[1] if len(share) > 1 else 0.0
    return {"mig": float((share[0] - second).mean())}
