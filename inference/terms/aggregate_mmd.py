"""The aggregate posterior drawn to the aggregate prior, by a kernel."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ..aggregate import KERNELS, aggregate_mmd
from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .term import Term


class AggregateMMD(Term):
    """``MMD^2(mean_j q(z|x_j,y_j), mean_j p(z|x_j))``, over the minibatch; lowered in guide and router.

    ``E k(z,z') + E k(v,v') - 2 E k(z,v)`` for z from q and v, drawn afresh, from the router, over pairs of different
    data: a U-statistic, unbiased in value and gradient for the aggregates of the data, and so negative at times
    [Gretton et al. 2012, lemma 6; as the divergence of InfoVAE: Zhao et al. 2019]. Where z has a finite support the
    kernel is ``1[z = z']``, and the figure ``sum_z (mean q - mean p)^2`` over pairs of different data, exact in z.
    Not in nats; 0 where the batch is a single datum.

    Args:
        weight: of the term, a number or a schedule.
        kernel: of continuous latents: ``imq``, ``h / (h + |z-z'|^2)``, whose gradient reaches far
            [Tolstikhin et al. 2018], or ``rbf``, ``exp(-|z-z'|^2 / h)``.
        width: h, above 0; where not given ``2 D``, the mean squared distance of two draws from ``N(0, 1)^D``.

    Raises:
        ValueError: another kernel, or a width that is not above 0 and finite.
    """

    expectations: ClassVar = (Enumerate, Sample)
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def __init__(
        self, weight: float | Schedule = 1.0, kernel: str = "imq", width: float | None = None
    ) -> None:
        super().__init__(weight)
        if kernel not in KERNELS:
            raise ValueError(f"term AggregateMMD: expected kernel {' or '.join(KERNELS)}, got {kernel!r}")
        if width is not None and not 0 < width < math.inf:
            raise ValueError(f"term AggregateMMD: width must be above 0 and finite, got {width}")
        self.kernel, self.width = kernel, width

    def value(self, log: LogQuantities) -> Tensor:
        return aggregate_mmd(log, self.kernel, self.width)
