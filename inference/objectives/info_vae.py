"""The ELBO with its KL in part taken from each posterior and put on their aggregate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from ..aggregate import aggregate_kl, aggregate_mmd
from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from .objective import Objective

DIVERGENCES: dict[str, Callable[[LogQuantities], Tensor]] = {"kl": aggregate_kl, "mmd": aggregate_mmd}


class InfoVAE(Objective):
    """``E_q[log p(y|x,z)] - (1-alpha) KL(q || p(z|x)) - (alpha+lambda-1) D(aggregate q || aggregate p)``.

    InfoVAE [Zhao et al. 2019, eq. 6], D over the minibatch. With ``D = KL`` and a router that does not read x it is
    the ELBO with alpha of the information between z and the datum given back, and lambda times the aggregate's KL.
    ``alpha=0, lambda_=1`` is the ELBO; ``alpha=1`` leaves each posterior free and holds their aggregate alone to the
    router. No bound on ``log p(y|x)`` elsewhere. KL is exact for the batch by enumeration and unbiased for it from
    draws, above the data's at the rate 1/B; MMD is unbiased for that of the data, and at times below 0
    (:mod:`~stratagem.inference.aggregate`).

    Args:
        alpha: at most 1; below 0 each posterior is held closer than by the ELBO.
        lambda_: at least ``1 - alpha``; of the order of 1 for KL, which is in nats, and far above for MMD, which
            is at most 2.
        divergence: ``mmd`` or ``kl``.

    Raises:
        ValueError: weights below 0 or not finite, or another divergence.
    """

    expectations: ClassVar = (Enumerate, Sample)
    pointwise: ClassVar = False

    def __init__(self, alpha: float = 1.0, lambda_: float = 1.0, divergence: str = "mmd") -> None:
        if not 0 <= 1 - alpha < math.inf or not 0 <= alpha + lambda_ - 1 < math.inf:
            raise ValueError(
                "objective InfoVAE: expected alpha <= 1 and lambda_ >= 1 - alpha, both finite, got "
                f"alpha={alpha} lambda_={lambda_}"
            )
        if divergence not in DIVERGENCES:
            raise ValueError(
                f"objective InfoVAE: expected divergence {' or '.join(DIVERGENCES)}, got {divergence!r}"
            )
        self.alpha, self.lambda_, self.divergence = alpha, lambda_, divergence

    def bound(self, log: LogQuantities) -> Tensor:
        own = 1 - self.alpha
        each = log.expect_q(log.log_lik + own * (log.log_prior - log.log_q) if own else log.log_lik)
        weight = self.alpha + self.lambda_ - 1
        return each - weight * DIVERGENCES[self.divergence](log) if weight else each
