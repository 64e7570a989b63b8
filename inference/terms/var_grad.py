"""The guide fitted to the posterior by the log-variance divergence."""

from __future__ import annotations

import torch
from torch import Tensor

from ..log_quantities import LogQuantities, xlogp
from .guide_term import GuideTerm


class VarGrad(GuideTerm):
    """``1/2 Var_q[log p(y,z|x) - log q(z|x,y)]`` in nats squared, with model and draws held fixed.

    The log-variance loss [Richter et al. 2020], and trajectory balance with ``log p(y|x)`` set to the mean of
    ``log_w`` over the draws of a datum [Zhang et al. 2023]. Zero where the guide is the posterior, on whatever draws:
    there the gradient has no variance.

    Over draws from q its gradient in q is that of ``KL(q || p(z|x,y))`` [Richter et al. 2020; Malkin et al. 2023]:
    exact by enumeration; by S draws unbiased in value and gradient, and draw by draw the score-function
    gradient with leave-one-out baselines. So beside an ELBO that the guide raises too it counts that a second time;
    beside gradient Held it does not.
    """

    def divergence(self, log: LogQuantities) -> Tensor:
        if not log.enumerated:
            return 0.5 * log.log_w.var(0)
        log_q = log.log_q.detach()
        log_w = torch.where(log_q > -torch.inf, log.log_w, 0.0)
        return 0.5 * xlogp(log_q, (log_w - xlogp(log_q, log_w).sum(0)) ** 2).sum(0)
