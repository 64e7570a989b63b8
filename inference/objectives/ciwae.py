"""Between the ELBO and the importance-weighted bound."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Sample
from ..log_quantities import LogQuantities
from .iwae import log_mean_exp
from .objective import Objective


class CIWAE(Objective):
    """``beta ELBO + (1 - beta) IWAE`` on the same S draws [Rainforth et al. 2018, section 4].

    Unbiased for its own mean, a lower bound of ``log p(y|x)``; beta keeps the gradient in the guide from vanishing
    as S grows.

    Args:
        beta: the ELBO's part, from 0 to 1.

    Raises:
        ValueError: a beta outside [0, 1].
    """

    expectations: ClassVar = (Sample,)
    of_weights: ClassVar = True

    def __init__(self, beta: float = 0.5) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"objective CIWAE: beta must be from 0 to 1, got {beta}")
        self.beta = beta

    def bound(self, log: LogQuantities) -> Tensor:
        return self.beta * log.log_w.mean(0) + (1 - self.beta) * log_mean_exp(log.log_w)
