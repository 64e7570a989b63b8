"""The exact marginal likelihood."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities
from .objective import Objective


class MarginalLikelihood(Objective):
    """``log p(y|x) = log sum_z p(z|x) p(y|x,z)``, over every z.

    Exact: neither biased nor noisy. The guide has no part in it, and is fitted beside it by the term
    :class:`~stratagem.inference.terms.ForwardKL`. Unlike the ELBO it does not reward a z that the guide can
    read.
    """

    expectations: ClassVar = (Enumerate,)

    def bound(self, log: LogQuantities) -> Tensor:
        return log.log_marginal
