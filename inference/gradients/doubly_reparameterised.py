"""The gradient through the samples, with the score of the guide reparameterised once more."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .gradient import Gradient
from .two_paths import slope, slope_and_curvature, two_paths


class DoublyReparameterised(Gradient):
    """DReG [Tucker et al. 2019], for any bound ``F(log_w)``, sites given others included [Bauer & Mnih 2021].

    The guide's gradient is ``sum_s (dF/dlog w_s - d^2F/dlog w_s^2) dlog w_s/dz_s dz_s/dphi``, with ``q(z|x,y)`` a
    function of z alone in ``log w``; for the IWAE the factor is the square of the self-normalised weight. The
    model's is ``sum_s dF/dlog w_s d log p(y,z_s|x)``. Unbiased for the mean of the bound over its S draws. Zero on
    every draw where the guide is the posterior; the signal-to-noise ratio of the gradient in the guide does not fall
    with S, as that of :class:`Pathwise` does. For the ELBO it is :class:`StickingTheLanding`. Costs one more run of
    the guide.

    Raises:
        ValueError: in :meth:`check`, an objective that is no function of the weights alone, or a single particle.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED

    def check(self, objective: Objective, expectation: Expectation) -> None:
        name = type(objective).__name__
        if not objective.of_weights:
            raise ValueError(
                f"gradient DoublyReparameterised: {name} is not a function of the weights p(y,z|x) / q(z|x,y) alone; "
                "use one that is (IWAE, PIWAE, Renyi), or gradient Pathwise"
            )
        assert isinstance(expectation, Sample)
        if expectation.num_particles < 2:
            raise ValueError(
                f"gradient DoublyReparameterised: with one particle {name} is the ELBO, got num_particles="
                f"{expectation.num_particles}; use 2 or more, or objective ELBO with gradient StickingTheLanding"
            )

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        first, second = slope_and_curvature(objective.guide_bound, log)
        return objective.bound(log), two_paths(log, slope(objective.bound, log), first - second)
