"""Jensen-Shannon divergence between the output laws of two strategies."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ...log_quantities import xlogp


def jensen_shannon(log_lik: Tensor) -> Tensor:
    """``JSD(p(y|x,z=j), p(y|x,z=k))`` in nats per sequence, ``(P, P, N)``, estimated from one response of each value.

    The divergence is what a fair coin tells by which of the two laws it draws y from [Lin 1991, section IV],
    ``log 2 - E[H(j|y)]`` with ``p(j|y) = p(y|j) / (p(y|j) + p(y|k))``. The expectation is the mean of one y of each
    law: unbiased, and every draw is between 0 and log 2, which draws of the log-ratio are not.

    Args:
        log_lik: ``log p(y_g|x,z=v)``, ``(G, V, N)``, of a response generated under g, under each value v, G = V = P.
    """
    own = log_lik.diagonal(dim1=0, dim2=1).T[:, None]  # (G, 1, N)
    log_odds = own - log_lik  # of g against v, given y_g
    p, q = logsigmoid(log_odds), logsigmoid(-log_odds)
    told = math.log(2) + xlogp(p, p) + xlogp(q, q)
    return ((told + told.transpose(0, 1)) / 2).clamp(0, math.log(2))


def least(divergence: Tensor, places: Tensor) -> tuple[int, int] | None:
    """The two of ``places`` that are nearest in the mean of ``(P, P, N)``; None where there are fewer than two."""
    if len(places) < 2:
        return None
    pairs = torch.combinations(places)
    means = divergence[pairs[:, 0], pairs[:, 1]].mean(1)
    j, k = pairs[means.argmin()].tolist()
    return j, k
