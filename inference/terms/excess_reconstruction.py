"""The reconstruction above the base's, where the base is unsure."""

from __future__ import annotations

from torch import Tensor

from ..expectations import Expectation, Sample
from ..gradients import Gradient
from ..log_quantities import LogQuantities
from .base_law import base_law
from .reconstruction import Reconstruction
from .response import response_of


class ExcessReconstruction(Reconstruction):
    """``E_q sum_t v_t (log p(y_t|x,z,y_<t) - log p0(y_t|x,y_<t))``, nats per sequence.

    The weights ``v_t = -log p0(y_t|x,y_<t)``, held fixed and brought to mean 1 over the response, put the gain on
    the tokens that the base cannot foresee, those that a strategy decides; a token that is certain counts nothing.
    Exact where enumerated, unbiased where sampled.
    """

    def check(self, expectation: Expectation, gradient: Gradient) -> None:
        super().check(expectation, gradient)
        if isinstance(expectation, Sample) and expectation.one_by_one:
            raise ValueError(
                "term ExcessReconstruction: needs the particles in one run, got one_by_one=true; set "
                "one_by_one=false, or use the term NormalisedReconstruction"
            )

    def gain(self, log: LogQuantities) -> Tensor:
        base = base_law(log)
        return (base.token_weights * (response_of(log).log_p - base.log_p)).sum(-1)
