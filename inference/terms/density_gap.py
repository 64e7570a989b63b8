"""The marginals of the aggregate posterior drawn to those of the prior."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Sample
from ..laws import Law, cross_by_dimension, draw_coordinates
from ..log_quantities import LogQuantities
from .term import Term


class DensityGap(Term):
    """``sum_d KL(mean_j q(z_d|x_j,y_j) || mean_j p(z_d|x_j))`` in nats, over the minibatch; lowered.

    The mean under the aggregate posterior of the gap ``log mean q - log mean p`` between the two densities, one
    coordinate at a time [Zhang et al. 2022, eq. 11]. In place of the ELBO's KL (``beta=0``) it closes the holes
    between the two without making every posterior the prior; the joint law is left free, unlike in
    :class:`~stratagem.inference.terms.AggregateKL`, as a batch is too few to know it. Each coordinate's figure is
    unbiased for the batch, in value and gradient; in the mean over batches above that of the data, by convexity, at
    the rate 1/B. A datum's value is its share, of either sign. Gaussian latents with independent coordinates.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def value(self, log: LogQuantities) -> Tensor:
        z = draw_coordinates(log, Law.POSTERIOR)  # (S, B, D)
        of_q, of_p = (cross_by_dimension(log, law, z).logsumexp(2) for law in Law)  # (S, B, D) each
        return (of_q - of_p).sum(-1).mean(0)
