"""The contract of a corruption."""

from __future__ import annotations

from ...models import Batch
from ..log_quantities import Program
from ..schedules import Schedule, scheduled


class Corruption:
    """Spoils what the decoder or the guide reads while training, never what is scored; off in evaluation.

    Args:
        rate: chance that a token is spoilt, from 0 to 1, a number or a schedule over the fit.

    Raises:
        ValueError: a rate outside [0, 1], at any share of the fit.
    """

    def __init__(self, rate: float | Schedule) -> None:
        self.rate = scheduled(rate)
        self.rate.check(f"corruption {type(self).__name__}: rate", lambda r: 0 <= r <= 1, "between 0 and 1")

    def of_model(self, model: Program, share: float) -> Program:  # noqa: ARG002
        """The model under the corruption when ``share`` of the fit is done."""
        return model

    def of_guide(self, batch: Batch, model: Program, share: float) -> Batch:  # noqa: ARG002
        """The batch as the guide of ``model`` reads it when ``share`` of the fit is done."""
        return batch
