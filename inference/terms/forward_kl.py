"""The guide fitted to the posterior by the forward KL."""

from __future__ import annotations

from torch import Tensor

from ..log_quantities import LogQuantities, xlogp
from .guide_term import GuideTerm, log_density


class ForwardKL(GuideTerm):
    """``KL(p(z|x,y) || q(z|x,y))`` in nats per sequence, lowered in q alone; exact by enumeration.

    The posterior is held fixed, so that the guide follows the model and never pulls it.

    By S draws, ``sum_s w_s log(S w_s)`` with self-normalised weights ``w_s``, of each datum by itself: between 0 and
    ``log S``, and 0 where the guide is the posterior. Its gradient in q, ``-sum_s w_s d log q(z_s|x,y)``, is the
    wake phase's [Bornschein & Bengio 2015]; value and gradient are biased at the rate 1/S.
    """

    def divergence(self, log: LogQuantities) -> Tensor:
        return xlogp(log.log_target.detach(), log_density(log) - log.log_q).sum(0)
