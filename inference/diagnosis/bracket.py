"""Bounds from above and below on information, by draws that a pair is contrasted with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..evaluation.statistics import mean_se


@dataclass(frozen=True)
class Bracket:
    """``I(z; y|x)`` of the model, from below and from above, nats per sequence.

    Attributes:
        low: the lower bound and its standard error.
        high: the upper bound and its standard error.
    """

    low: tuple[float, float]
    high: tuple[float, float]

    @property
    def width(self) -> float:
        """What the number of contrasts leaves open."""
        return max(self.high[0] - self.low[0], 0.0)

    def within(self, other: Bracket) -> Bracket:
        """The better of the bounds of both."""
        return Bracket(max(self.low, other.low), min(self.high, other.high))


def bracket(log_lik: Tensor, log_w_own: Tensor, log_w: Tensor) -> Bracket:
    """Two estimates of ``E[log p(y|x,z) - log p(y|x)]``, for (z, y) from the model, that differ in ``p(y|x)``.

    That is the mean of the weights ``p(z_j,y|x) / r(z_j)`` of S draws ``z_j ~ r``, whose logarithm is too low in the
    mean, so that the information is too high; or of these and of the weight of z itself, which is a draw of the
    posterior, with which the logarithm is too high and the information too low [Grosse et al. 2015].

    With the router for r the weights are ``p(y|x,z_j)``, and the lower bound is InfoNCE with the best of all critics
    [van den Oord et al. 2018; Poole et al. 2019, eq. 12], which cannot exceed ``log(S + 1)``; the upper bound is the
    leave-one-out bound [Poole et al. 2019, eq. 13]. With the guide for r the lower bound exceeds what the guide reads
    by up to ``log(S + 1)`` [Brekelmans et al. 2022]. Both close in at the rate 1/S.

    Args:
        log_lik: ``log p(y|x,z)``, ``(N,)``.
        log_w_own: log-weight of z itself, ``(N,)``.
        log_w: log-weights of the draws, ``(S, N)``.
    """
    count = len(log_w)
    without = log_w.logsumexp(0)
    whole = torch.logaddexp(without, log_w_own)
    return Bracket(
        mean_se(log_lik - whole + math.log(count + 1)), mean_se(log_lik - without + math.log(count))
    )
