"""The spread of a continuous posterior kept from nothing and from everything."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Sample
from ..laws import Law, diagonal_normals
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .term import Term


class PosteriorVariance(Term):
    """``sum_d KL(N(m_d, s_d^2) || N(m_d, t^2)) = sum_d (s_d^2/t^2 - 1 - log s_d^2/t^2) / 2``, lowered in the guide.

    In nats per sequence, exact, without draws: the part of the Gaussian KL that the standard deviations s have
    [Kingma & Welling 2014, appendix B], about any scale t and without the part that draws the means m together. It
    is 0 at ``s = t``, and has no bound as s falls to 0, where the latent is a code without noise, or rises.

    Args:
        weight: of the term, a number or a schedule.
        scale: t, above 0.

    Raises:
        ValueError: a scale that is not above 0 and finite.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def __init__(self, weight: float | Schedule = 1.0, scale: float = 1.0) -> None:
        super().__init__(weight)
        if not 0 < scale < math.inf:
            raise ValueError(f"term PosteriorVariance: scale must be above 0 and finite, got {scale}")
        self.scale = scale

    def value(self, log: LogQuantities) -> Tensor:
        _, scale = diagonal_normals(log, Law.POSTERIOR)
        ratio = (scale / self.scale) ** 2
        return 0.5 * (ratio - 1 - ratio.log()).sum(-1).mean(0)
