"""The gradient through the samples."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .gradient import Gradient
from .rescoring import rescore
from .two_paths import slope, two_paths


class Pathwise(Gradient):
    """``z = g(noise; parameters)`` and autograd through g [Kingma & Welling 2014, section 2.4].

    Unbiased, in model and guide, for the mean of the bound over its S draws. Where the guide raises a bound of its
    own, each gets the whole derivative of its bound, from one run of the model.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED

    def check(self, objective: Objective, expectation: Expectation) -> None:  # noqa: ARG002
        if not (objective.shared or objective.of_weights):
            raise ValueError(
                f"gradient Pathwise: {type(objective).__name__} has a bound of its own for the guide, which is not a "
                "function of the weights p(y,z|x) / q(z|x,y) alone, so that one run of the model cannot serve both; "
                "use one that is (PIWAE, Renyi), or one bound for both (ELBO, IWAE)"
            )

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log)
        if objective.shared:
            return bound, bound
        of_guide = slope(objective.guide_bound, log)
        fixed = {name: site.z.detach() for name, site in log.sites.items()}
        direct = (of_guide * rescore(log, fixed, fixed=False)).sum(0)
        return bound, two_paths(log, slope(objective.bound, log), of_guide) - direct
