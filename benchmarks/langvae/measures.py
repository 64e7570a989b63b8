"""Figures of a latent model of texts, the same functions for both sides.

Arrays of S draws from the guide for N held-out texts, in nats: ``log_lik`` log p(y|z), ``log_prior`` log p(z) and
``log_q`` log q(z|y), each ``(S, N)``; ``z`` ``(N, D)``, a draw for each text; ``mean`` and ``scale`` ``(N, D)`` of the
Gaussian q(z|y).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
ACTIVE = 0.01
"""Variance of the posterior mean from which a unit is active [Burda et al. 2016, section 5.2]."""


def log_mean_exp(values: Array) -> Array:
    """Over the first axis."""
    top = values.max(0)
    return top + np.log(np.exp(values - top).mean(0))


def nll(log_lik: Array, log_prior: Array, log_q: Array) -> Array:
    """``-log (1/S) sum_s p(y,z_s)/q(z_s|y)``, ``(N,)``: too high in the mean, less so the more draws."""
    return -log_mean_exp(log_lik + log_prior - log_q)


def divergence(log_prior: Array, log_q: Array) -> Array:
    """``KL(q(z|y) || p(z))`` by the draws, ``(N,)``."""
    return (log_q - log_prior).mean(0)


def information(z: Array, mean: Array, scale: Array) -> float:
    """``E log q(z|y) - log (1/N) sum_j q(z|y_j)``: of z and y under q, at most ``log N``."""
    gap = (z[:, None] - mean) / scale  # (N, N, D)
    log_q = -(0.5 * gap**2 + np.log(scale) + 0.5 * np.log(2 * np.pi)).sum(-1)
    return float((np.diag(log_q) - log_mean_exp(log_q.T)).mean())


def active_units(mean: Array) -> int:
    """Coordinates whose posterior mean varies over the texts."""
    return int((mean.var(0, ddof=1) > ACTIVE).sum())


def bleu(references: Sequence[str], texts: Sequence[str], order: int = 4) -> float:
    """Corpus BLEU of words, one reference to each text, without smoothing [Papineni et al. 2002]."""
    found, asked = np.zeros(order), np.zeros(order)
    sizes = np.zeros(2)
    for reference, text in zip(references, texts, strict=True):
        true, said = reference.split(), text.split()
        sizes += (len(true), len(said))
        for n in range(1, order + 1):
            grams = [Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (true, said)]
            found[n - 1] += (grams[0] & grams[1]).total()
            asked[n - 1] += grams[1].total()
    if not found.all():
        return 0.0
    brevity = min(0.0, 1 - sizes[0] / sizes[1])
    return float(np.exp(brevity + np.log(found / asked).mean()))


def exact(references: Sequence[str], texts: Sequence[str]) -> float:
    """Share of texts that are their reference, but for blanks."""
    same = [a.split() == b.split() for a, b in zip(references, texts, strict=True)]
    return sum(same) / len(same)
