"""The exact posterior pulled to what the guide says."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from .term import Term


class PosteriorRegularisation(Term):
    """``KL(q(z|x,y) || p(z|x,y))`` in nats per sequence, lowered in the decoder alone; exact by enumeration.

    The penalty of posterior regularisation [Ganchev et al. 2010], whose constrained family is here what a guide of
    limited capacity can say. q is held fixed, so that the posterior follows the guide: a partition whose labels
    change on a part of the prompts, which a plain guide cannot read, is pulled to one that means the same on each
    of them. The router is held fixed, as in :class:`~stratagem.inference.terms.MutualInformation`: what the guide
    reads has to be in y, and not only in p(z|x). Zero, and without gradient, where the guide is the posterior.
    """

    expectations: ClassVar = (Enumerate,)
    sign: ClassVar = -1

    def value(self, log: LogQuantities) -> Tensor:
        log_joint = log.log_lik + log.log_prior.detach()
        log_q = log.log_q.detach()
        return xlogp(log_q, log_q - (log_joint - log_joint.logsumexp(0))).sum(0)
