"""The information between z and the datum, estimated over the minibatch."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..laws import Law, Values
from ..log_quantities import LogQuantities
from .term import Term


class MinibatchInformation(Term):
    """``E_q[log q(z|x,y) - log (1/B) sum_j q(z|x_j,y_j)]`` in nats per sequence, over the minibatch; raised.

    The information between z and which datum it is the posterior of [Hoffman & Johnson 2016], from 0, where all
    posteriors are one, to ``log B``, where none overlap; no estimate from a batch can show more. In the mean over
    batches below the information over the data, since entropy is concave: the InfoNCE bound with the posterior for
    its critic is this very figure [Poole et al. 2019]. Exact for the batch where z has a finite support, on any
    draws; otherwise unbiased for it, in value and gradient.

    Unlike :class:`~stratagem.inference.terms.MutualInformation` it is of the guide alone, needs no enumeration, and
    is measured against the batch's mean posterior: it counts what z says of x beside what it says of y, and pushes
    usage to uniform.
    """

    expectations: ClassVar = (Enumerate, Sample)
    pointwise: ClassVar = False

    def value(self, log: LogQuantities) -> Tensor:
        values = Values.under(Law.POSTERIOR, log)
        return values.expect(values.own(Law.POSTERIOR) - values.mean_law(Law.POSTERIOR))
