"""The reconstruction in units of the base's own loss."""

from __future__ import annotations

from torch import Tensor

from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .base_law import base_law
from .reconstruction import Reconstruction


class NormalisedReconstruction(Reconstruction):
    """``E_q[log p(y|x,z)] / max(|log p0(y|x)|, floor)``, a number without units: -1 where z tells nothing.

    A long or unlikely response weighs as much as a short one. The term's weight is in nats a response. Exact where
    enumerated, unbiased where sampled.

    Args:
        weight: as for any term.
        floor: nats, so that responses of which the base is sure do not outweigh all others.

    Raises:
        ValueError: a floor that is not above 0.
    """

    def __init__(self, weight: float | Schedule = 1.0, floor: float = 1.0) -> None:
        super().__init__(weight)
        if not floor > 0:
            raise ValueError(f"term NormalisedReconstruction: floor must be above 0 nats, got {floor}")
        self.floor = floor

    def gain(self, log: LogQuantities) -> Tensor:
        return log.log_lik / base_law(log).log_p.sum(-1).neg().clamp(min=self.floor)
