"""A tight bound for the model, one with a clear gradient for the guide."""

from __future__ import annotations

from torch import Tensor

from ..log_quantities import LogQuantities
from .iwae import log_mean_exp
from .miwae import MIWAE


class PIWAE(MIWAE):
    """The model raises the IWAE bound of all S draws, the guide the MIWAE [Rainforth et al. 2018, section 4].

    The bound is the model's. Unbiased as its two parts.

    Args:
        groups: M of the guide's MIWAE, which divides the number of draws.

    Raises:
        ValueError: as :class:`MIWAE`.
    """

    def bound(self, log: LogQuantities) -> Tensor:
        return log_mean_exp(log.log_w)

    def guide_bound(self, log: LogQuantities) -> Tensor:
        return super().bound(log)
