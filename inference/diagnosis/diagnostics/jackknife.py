"""Standard errors of figures that are no means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

GROUPS = 20


def jackknife(figure: Callable[[np.ndarray], float], num: int, groups: int = GROUPS) -> tuple[float, float]:
    """A figure of all data and its standard error, by leaving out one group of data after the other.

    ``sqrt((G - 1) / G sum_g (f_g - mean f)^2)`` [Efron & Tibshirani 1993, eq. 11.5, with groups for data].

    Args:
        figure: of the places of some data.
        num: data in all.
        groups: G, or ``num`` where that is less.
    """
    places = np.arange(num)
    count = min(groups, num)
    without = np.array([figure(places[places % count != g]) for g in range(count)] if count > 1 else [0.0])
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    return figure(places), float(error)
