"""How far the guide is from the posterior, and what its draws are worth as importance samples."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...evaluation.statistics import mean_se, named, ratio_se
from ...inference_data import psislw
from ..diagnostic import Readings
from ..subject import Subject

HEAVY = 0.7
"""Pareto k from which importance weighting is unreliable however many draws there are [Vehtari et al. 2024]."""

TELLS = 1e-6
"""Nats of information below which the gap is no share of it."""

EQUAL = 1e-3
"""Nats by which log-weights may differ that are all the same, rounding aside."""


def importance(subject: Subject) -> Readings:
    """The guide against the posterior, on responses of the base.

    Where z is enumerable the gap ``KL(p(z|x,y) || q(z|x,y))`` is exact, and the effective sample size of S draws as a
    share of S, in the limit, ``1 / sum_z p(z|x,y)^2 / q(z|x,y)``. Elsewhere both are estimated from the importance
    weights of S draws of the guide: the gap by the importance-weighted bound less the ELBO
    [Burda et al. 2016], which is below ``log p(y|x) - ELBO = KL(q || p(z|x,y))`` in the mean, the size by
    ``(sum w)^2 / sum w^2``; and the tail of the weights by its Pareto k, which of a datum is NaN where all weights are
    the same, as they are where the guide is the posterior, and infinite where single draws carry all weight.
    """
    return _enumerated(subject) if subject.enumerable else _sampled(subject)


def _enumerated(subject: Subject) -> Readings:
    seen = subject.seen
    assert seen.gap is not None
    assert seen.posterior is not None
    assert seen.amortized is not None
    figures = named("posterior/gap", mean_se(seen.gap))
    if float(seen.information.double().mean()) > TELLS:
        figures |= named("posterior/gap_share", ratio_se(seen.gap, seen.information))
    p, q = seen.posterior.double(), seen.amortized.double()
    share = 1 / torch.where(p > 0, p**2 / q, 0.0).sum(1)
    return Readings(figures | {"posterior/ess": float(share.median())}, per_datum={"ess": share.numpy()})


def _sampled(subject: Subject) -> Readings:
    assert subject.seen.log_weight is not None
    log_w = subject.seen.log_weight.double()
    share, shape = effective_share(log_w), pareto_k(log_w)
    gap = log_w.logsumexp(0) - math.log(len(log_w)) - log_w.mean(0)
    figures = {
        **named("posterior/iwae_elbo_gap", mean_se(gap)),
        "posterior/ess": float(share.median()),
        "posterior/pareto_k_bad": float((shape > HEAVY).mean()),
    }
    if np.isfinite(shape).any():
        figures["posterior/pareto_k_max"] = float(shape[np.isfinite(shape)].max())
    return Readings(figures, per_datum={"ess": share.numpy(), "pareto_k": shape})


def effective_share(log_w: Tensor) -> Tensor:
    """``(sum w)^2 / (S sum w^2)``, from 1/S to 1, ``(N,)`` of log-weights ``(S, N)`` [Kong 1992]."""
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp() / len(log_w)


def pareto_k(log_w: Tensor) -> np.ndarray:
    """The shape k of the tail of each datum's weights, ``(N,)`` of log-weights ``(S, N)`` [Vehtari et al. 2024]."""
    rows = log_w.T.numpy()
    return np.where(np.ptp(rows, 1) <= EQUAL, np.nan, psislw(rows)[1])
