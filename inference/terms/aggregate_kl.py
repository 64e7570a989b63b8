"""The aggregate posterior drawn to the aggregate prior."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..aggregate import aggregate_kl
from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from .term import Term


class AggregateKL(Term):
    """``KL(mean_j q(z|x_j,y_j) || mean_j p(z|x_j))`` in nats, over the minibatch; lowered in guide and router.

    What is left of ``E KL(q || p(z|x))`` when the information is taken away, where the prior does not depend on x
    [Hoffman & Johnson 2016]: strategies are used as often as the router says, at no cost for saying something of y.
    A datum's value is its share ``E_q[log mean q - log mean p]``, of either sign. Exact for the batch where z has a
    finite support, on any draws; otherwise unbiased for it, in value and gradient. In the mean over batches above
    the figure of the data, by convexity, at the rate 1/B.
    """

    expectations: ClassVar = (Enumerate, Sample)
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def value(self, log: LogQuantities) -> Tensor:
        return aggregate_kl(log)
