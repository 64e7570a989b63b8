"""The gradient by the score of the draws."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .baseline import Baseline
from .gradient import Gradient
from .held import Detached


class ScoreFunction(Gradient):
    """``d E[F] = E[dF + sum_s (F - b_s) d log q(z_s|x,y)]`` for a bound F of S draws [Williams 1992].

    REINFORCE. For any latents whose law has a density, and unbiased for the expectation of any bound, in model and
    guide; the baselines ``b_s`` take variance away. Where model and guide raise bounds of their own, F is the
    guide's.

    Args:
        baseline: ``b_s``; 0 where not given.

    Raises:
        ValueError: in :meth:`check`, an objective that is no function of each datum's log-quantities by themselves,
            or too few draws for the baseline.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.SCORABLE

    def __init__(self, baseline: Baseline | None = None) -> None:
        super().__init__()
        self.baseline = baseline

    def draws(self, share: float) -> Detached:  # noqa: ARG002
        return Detached()

    def check(self, objective: Objective, expectation: Expectation) -> None:
        check_pointwise(self, objective)
        if self.baseline is not None:
            assert isinstance(expectation, Sample)
            self.baseline.check(expectation)

    def bind(self, model: nn.Module) -> None:
        if self.baseline is not None:
            self.baseline.bind(model)

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound, direct, value = bounds_of(objective, log)
        signal, beside = value, torch.zeros_like(value)
        if self.baseline is not None:
            signal, beside = self.baseline(value, objective.guide_bound, log.hold_guide().hold_model())
        return bound, direct + (signal * log.log_q).sum(0) + beside


def bounds_of(objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor, Tensor]:
    """Each ``(B,)``: the bound, what is differentiated for draws held fixed, and the guide's bound without gradient."""
    if objective.shared:
        bound = objective.bound(log)
        return bound, bound, bound.detach()
    bound = objective.bound(log.hold_guide())
    of_guide = objective.guide_bound(log.hold_model())
    return bound, bound + of_guide, of_guide.detach()


def check_pointwise(gradient: Gradient, objective: Objective) -> None:
    """Refuse an objective that is more than a function of each datum's log-quantities.

    Raises:
        ValueError: such an objective.
    """
    if not objective.pointwise:
        raise ValueError(
            f"gradient {type(gradient).__name__}: needs an objective that is a function of each datum's "
            f"log-quantities by themselves, and {type(objective).__name__} is not; use gradient GumbelSoftmax for "
            "categorical latents, Pathwise for continuous ones"
        )
