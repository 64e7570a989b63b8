"""Simulation-based calibration: the places of draws among what is inferred of them, and whether they are uniform."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import chisquare
from torch import Tensor

from .own_draws import OwnDraws

LEAST, MOST = 2, 20
"""Bins of a histogram."""

PER_BIN = 15
"""Data for each bin."""

ROUNDING = 1e-4
"""Nats, and share, by which log-likelihoods may differ that are the same, computed in different runs."""


def ranks(own: OwnDraws) -> dict[str, Tensor]:
    """The place of the z drawn in the guide's law, ``(N,)`` in [0, 1], by test quantity; ties are broken at random.

    Uniform where the guide is the posterior, since z and draws of the guide are then exchangeable given x and y
    [Talts et al. 2018, theorem 1]. The quantities are

    - ``value``: the joint value of an enumerable z, in the order of all of them; the place is in the distribution
      function of the guide, at random within the step [Czado et al. 2009];
    - ``<site>/<d>``: a coordinate of a z that is not enumerable, among draws of the guide;
    - ``likelihood``: ``log p(y|x,z)``. By the others alone a guide passes that is wrong on each datum and right in the
      mean, such as the router [Modrak et al. 2023].
    """
    log_lik = torch.cat([own.values.log_lik, own.truth.log_lik])
    if own.place is not None:
        weights = torch.cat([own.values.log_q.exp(), torch.zeros_like(own.truth.log_q)])
        values = torch.arange(len(own.values.log_q)).double()[:, None].expand_as(own.values.log_q)
        tables = {"value": torch.cat([values, own.place[None].double()])}
    else:
        weights = torch.ones_like(log_lik)
        tables = {}
        for name, guesses in own.guesses.items():
            whole = torch.cat([guesses, own.z[name][None]])  # (P + 1, N, *event)
            columns = whole.reshape(*whole.shape[:2], -1).unbind(-1)
            tables |= {f"{name}/{d}": column for d, column in enumerate(columns)}
    tables["likelihood"] = (log_lik / (ROUNDING * (1 + log_lik[-1].abs()))).round()
    return {name: places(table, weights) for name, table in tables.items()}


def places(table: Tensor, weights: Tensor) -> Tensor:
    """The share of the weight below the last row and, at random, of that in a tie with it: ``(N,)`` of ``(R, N)``."""
    below, tied = ((weights * at).sum(0) for at in (table < table[-1], table == table[-1]))
    return (below + torch.rand(len(tied), dtype=weights.dtype) * tied) / weights.sum(0)


def histogram(places: Tensor) -> np.ndarray:
    """Counts in bins of equal width: a bin for 15 data, at least 2 bins and at most 20."""
    bins = min(max(len(places) // PER_BIN, LEAST), MOST)
    return np.histogram(places.numpy(), bins, (0, 1))[0]


def uniformity(counts: np.ndarray) -> tuple[float, float]:
    """The p-value of Pearson's test that bins are alike, and how far they are from it.

    The distance is the root mean square of a density's deviation from 1, as far as it is beyond what chance gives.
    """
    found = chisquare(counts)
    excess = (float(found.statistic) - (len(counts) - 1)) / counts.sum()
    return float(found.pvalue), float(np.sqrt(max(excess, 0)))
