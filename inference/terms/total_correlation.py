"""The dependence between the coordinates of z."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ...models import Backbone, Capability
from ..dataset import Dataset
from ..expectations import Sample
from ..laws import Law, cross_by_dimension, draw_coordinates
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .term import Term


class TotalCorrelation(Term):
    """``KL(q(z) || prod_d q(z_d))`` of ``q(z) = (1/N) sum_n q(z|x_n,y_n)`` in nats, over the minibatch; lowered.

    Beside the ELBO with weight ``beta - 1`` it is the beta-TCVAE [Chen et al. 2018, eq. 2, 4]. ``q(z)`` and each
    ``q(z_d)`` at a draw of datum b are estimated by stratified sampling, ``q(z|b)/N + (N-1)/N mean_{j != b} q(z|j)``,
    in its mean over which neighbour takes the remainder: unbiased, while their logarithms are biased by Jensen's
    inequality, at the rate 1/B. A datum's value is the mean of its draws. Gaussian latents with independent
    coordinates, D of all latents together. 0 where D is 1 or the batch is a single datum.

    Args:
        size: N, the data in the training set, at least 2; null for those of the fit, without one those of the batch.
        weight: of the term, a number or a schedule.

    Raises:
        ValueError: a size below 2; in the fit, a batch of more data.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def __init__(self, size: int | None = None, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        if size is not None and size < 2:
            raise ValueError(f"term TotalCorrelation: size must be at least 2, got {size}")
        self.size = size

    def prepare(self, backbone: Backbone, data: Sequence[Dataset], values: int, seed: int) -> None:  # noqa: ARG002
        self.size = self.size or len(data[0])

    def value(self, log: LogQuantities) -> Tensor:
        z = draw_coordinates(log, Law.POSTERIOR)  # (S, B, D)
        if z.shape[1] == 1:
            return torch.zeros_like(z[0, :, 0])
        crossed = cross_by_dimension(log, Law.POSTERIOR, z)  # (S, B, B, D)
        weights = self.log_weights(z.shape[1]).to(z)
        joint = (crossed.sum(-1) + weights).logsumexp(2)
        marginals = (crossed + weights[..., None]).logsumexp(2)
        return (joint - marginals.sum(-1)).mean(0)

    def log_weights(self, batch: int) -> Tensor:
        """``(B, B)``, of the law of datum j in the estimate at a draw of datum b, at ``[b, j]``; float64."""
        size = self.size or batch
        if batch > size:
            raise ValueError(
                f"term TotalCorrelation: a batch of {batch} data, expected no more than size={size}; give the size of "
                "the training set"
            )
        neighbour = math.log((size - 1) / size / (batch - 1))
        weights = torch.full((batch, batch), neighbour, dtype=torch.float64)
        return weights.fill_diagonal_(-math.log(size))
