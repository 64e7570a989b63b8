"""The importance-weighted bound."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ..expectations import Sample
from ..log_quantities import LogQuantities
from .objective import Objective


class IWAE(Objective):
    """``log 1/S sum_s w_s`` with ``w_s = p(y, z_s|x) / q(z_s|x,y)``, ``z_s ~ q`` [Burda et al. 2016].

    In expectation between the ELBO (S = 1) and ``log p(y|x)``, rising with S, its gap ``Var(w/p) / 2S`` for large
    S. Unbiased for its own mean in value and, by the pathwise gradient, in gradient; but the signal-to-noise ratio
    of the gradient in the guide falls as ``1/sqrt(S)`` [Rainforth et al. 2018, theorem 1].
    """

    expectations: ClassVar = (Sample,)
    of_weights: ClassVar = True

    def bound(self, log: LogQuantities) -> Tensor:
        return log_mean_exp(log.log_w)


def log_mean_exp(values: Tensor) -> Tensor:
    """``log`` of the mean of ``exp(values)`` over the first place."""
    return values.logsumexp(0) - math.log(len(values))
