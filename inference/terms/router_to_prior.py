"""The router's mean law drawn to the reference law."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..laws import Law, Values, diagonal_normals, stacked
from ..log_quantities import LogQuantities
from .term import Term


class RouterToPrior(Term):
    """``KL(mean_j p(z|x_j) || reference)`` in nats, over the minibatch; lowered in the router.

    The reference is uniform over a finite support, and standard normal for Gaussian latents. Keeps every strategy in
    use by some prompt while each prompt may be sure of its own: what balances the load of a mixture of experts
    [Shazeer et al. 2017]. A datum's value is its share ``E_p[log mean p - log reference]``, of either sign. Exact for
    the batch where z has a finite support, on any draws; otherwise unbiased for it, in value and gradient. In the
    mean over batches above the figure of the data, by convexity, at the rate 1/B.
    """

    expectations: ClassVar = (Enumerate, Sample)
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def value(self, log: LogQuantities) -> Tensor:
        values = Values.under(Law.PRIOR, log)
        mean_law = values.mean_law(Law.PRIOR)
        if values.z is None:
            return values.expect(mean_law + math.log(len(mean_law)))
        diagonal_normals(log, Law.PRIOR)
        reference = -0.5 * (stacked(values.z) ** 2 + math.log(2 * math.pi)).sum(-1)
        return values.expect(mean_law - reference)
