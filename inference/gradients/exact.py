"""The gradient of a sum over the whole support."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .gradient import Gradient


class Exact(Gradient):
    """Autograd through the sum over z, in model and guide, each of its own bound; exact, without variance."""

    expectations: ClassVar = (Enumerate,)

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        if objective.shared:
            bound = objective.bound(log)
            return bound, bound
        bound, raised = objective.bound(log.hold_guide()), objective.guide_bound(log.hold_model())
        return bound, bound + (raised - raised.detach())
