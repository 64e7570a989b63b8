"""The covariance of the coordinates of z drawn to the identity."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ...models import Capability
from ..expectations import Sample
from ..laws import Law, diagonal_normals
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .term import Term

KINDS = ("I", "II")


class DIP(Term):
    """``sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2``, over the minibatch; lowered in the guide.

    The disentangled inferred prior [Kumar et al. 2018]: in kind I (eq. 6) C is the covariance of the posterior's
    means, in kind II (eq. 7) that of the aggregate posterior, which is the former plus the mean of the posterior's
    variances on the diagonal. Without draws, from the batch's covariance, whose square is biased at the rate 1/B.
    Gaussian latents with independent coordinates, those of all latents together. Not in nats; every datum has the
    value of the batch.

    Args:
        kind: ``I`` or ``II``.
        weight: of the term, a number or a schedule: lambda_od of the paper.
        diagonal: of the variances, beside the covariances, at least 0: lambda_d / lambda_od.

    Raises:
        ValueError: another kind, or a diagonal that is negative or not finite.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def __init__(self, kind: str, weight: float | Schedule = 1.0, diagonal: float = 1.0) -> None:
        super().__init__(weight)
        if kind not in KINDS:
            raise ValueError(f"term DIP: expected kind {' or '.join(KINDS)}, got {kind!r}")
        if not 0 <= diagonal < math.inf:
            raise ValueError(f"term DIP: diagonal must be finite and not negative, got {diagonal}")
        self.kind, self.diagonal = kind, diagonal

    def value(self, log: LogQuantities) -> Tensor:
        mean, scale = diagonal_normals(log, Law.POSTERIOR)
        rows = mean.flatten(0, 1)  # (S * B, D)
        rows = rows - rows.mean(0)
        covariance = rows.mT @ rows / len(rows)
        if self.kind == "II":
            covariance = covariance + torch.diag((scale**2).flatten(0, 1).mean(0))
        variances = covariance.diagonal()
        between = (covariance**2).sum() - (variances**2).sum()
        return (between + self.diagonal * ((variances - 1) ** 2).sum()).expand(mean.shape[1])
