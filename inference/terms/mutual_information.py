"""The information that z and y share, given x."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from .term import Term


class MutualInformation(Term):
    """``I(z; y | x) = E_y KL(p(z|x,y) || p(z|x))`` with the exact posterior, one datum's share of it.

    The router is held fixed: ``I`` is the minimum of this over routers, so raising it in the router would
    raise an upper bound and drive the router away from the posterior it should match. Measured against the
    router and not against the batch's mean posterior, which would push usage to uniform and cut a frequent
    strategy in pieces. Raising it is what picks, among the many factorisations with the same marginal, one
    that uses z [after Zhao et al. 2019, eq. 6]. Exact on the given y; in expectation over ``y ~ p(y|x)`` it
    is the information of the model.
    """

    expectations: ClassVar = (Enumerate,)

    def value(self, log: LogQuantities) -> Tensor:
        log_prior = log.log_prior.detach()
        log_joint = log.log_lik + log_prior
        log_posterior = log_joint - log_joint.logsumexp(0)
        return xlogp(log_posterior, log_posterior - log_prior).sum(0)
