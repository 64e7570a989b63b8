"""The guide fitted to the posterior by the forward chi-square divergence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..log_quantities import LogQuantities
from .guide_term import GuideTerm, log_density


class ForwardChiSquare(GuideTerm):
    """``log(1 + chi2(p(z|x,y) || q(z|x,y))) = log E_q[(p(z|x,y) / q)^2]`` in nats, lowered in q alone.

    The step of the guide in variational importance sampling [Li et al. 2024]: the smaller it is, the smaller the
    variance of the weights whose mean estimates ``p(y|x)``. More than any other term here it makes q cover the
    posterior. Exact by enumeration.

    By S draws, ``log(S / ESS)`` with the effective sample size ``ESS = 1 / sum_s w_s^2`` of the self-normalised
    weights: between 0 and ``log S``. Its gradient in q is ``-sum_s v_s d log q(z_s|x,y)``, ``v`` the softmax of
    ``2 log_w``; value and gradient are biased at the rate 1/S.
    """

    def divergence(self, log: LogQuantities) -> Tensor:
        log_p = log_density(log)
        square = 2 * log_p - log.log_q  # (P, B), log of p^2 / q
        if log.enumerated:
            return torch.where(log_p > -torch.inf, square, -torch.inf).logsumexp(0)
        return (square - log.log_q.detach()).logsumexp(0) - math.log(len(square))
