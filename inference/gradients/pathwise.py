"""The gradient through the samples."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .gradient import Gradient


class Pathwise(Gradient):
    """``z = g(noise; parameters)`` and autograd through g [Kingma & Welling 2014, eq. 4]; unbiased for the ELBO."""

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log)
        return bound, bound
