"""The information between z and y that the guide can read."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from .term import Term


class VariationalInformation(Term):
    """``E_{p(z|x,y)}[log q(z|x,y) - log p(z|x)] = I(z; y|x) - KL(p(z|x,y) || q)`` [Barber & Agakov 2003, eq. 3].

    A lower bound on the information, tight where the guide is the posterior; exact on the given y. Its gradient in
    q is that of the forward KL; in the model it raises the information that a guide of q's capacity can read. A
    partition whose labels change from prompt to prompt has all the information and cannot be read by a plain guide,
    one that means the same on every x can: this is what tells them apart. The router is held fixed, as in
    :class:`~stratagem.inference.terms.MutualInformation`.
    """

    expectations: ClassVar = (Enumerate,)

    def value(self, log: LogQuantities) -> Tensor:
        log_prior = log.log_prior.detach()
        log_joint = log.log_lik + log_prior
        log_posterior = log_joint - log_joint.logsumexp(0)
        return xlogp(log_posterior, log.log_q - log_prior).sum(0)
