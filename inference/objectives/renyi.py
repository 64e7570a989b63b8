"""The variational Renyi bound, and the chi-square upper bound."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from .iwae import log_mean_exp
from .objective import Objective


class Renyi(Objective):
    """``L_alpha = 1/(1-alpha) log E_q[w^(1-alpha)] = log p(y|x) - D_alpha(q || p(z|x,y))`` [Li & Turner 2016].

    Falling in alpha: ``log p(y|x)`` at 0 (where a guide that misses no z is free), the ELBO as alpha tends to 1.

    From 0 on, model and guide both raise it. Below 0 it is an upper bound of ``log p(y|x)``, at -1 the CUBO,
    ``log p(y|x) + 1/2 log(1 + chi^2(p(z|x,y) || q))`` [Dieng et al. 2017]: the guide lowers it, and the model raises
    ``L_0`` in its place, which is also the bound that is reported: exactly ``log p(y|x)`` where enumerated, the IWAE
    where sampled. :meth:`value` is ``L_alpha`` itself.

    Exact where enumerated. Sampled, the mean under the logarithm is over S draws: biased at the rate 1/S, downward
    for alpha below 1 (so that below 0 the estimate need not be above ``log p(y|x)``), upward beyond.

    Args:
        alpha: the order, finite and not 1.

    Raises:
        ValueError: another alpha.
    """

    expectations: ClassVar = (Enumerate, Sample)
    of_weights: ClassVar = True

    def __init__(self, alpha: float = 0.5) -> None:
        if alpha == 1 or not math.isfinite(alpha):
            raise ValueError(
                f"objective Renyi: alpha must be finite and not 1, got {alpha}; at 1 it is ELBO (inference=elbo)"
            )
        self.alpha = alpha

    @property
    def shared(self) -> bool:
        return self.alpha >= 0

    def value(self, log: LogQuantities) -> Tensor:
        """``L_alpha``, ``(B,)``."""
        return _value(log, self.alpha)

    def bound(self, log: LogQuantities) -> Tensor:
        return _value(log, max(self.alpha, 0.0))

    def guide_bound(self, log: LogQuantities) -> Tensor:
        return self.bound(log) if self.shared else -self.value(log)


def _value(log: LogQuantities, alpha: float) -> Tensor:
    power = (1 - alpha) * log.log_w
    if not log.enumerated:
        return log_mean_exp(power) / (1 - alpha)
    # Where q is 0 the weight is infinite, and counts nothing under E_q.
    terms = torch.where(log.log_q > -torch.inf, log.log_q + power, -torch.inf)
    return terms.logsumexp(0) / (1 - alpha)
