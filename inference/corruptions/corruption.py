"""The contract of a corruption."""

from __future__ import annotations

from ...models import Batch
from ..log_quantities import Program


class Corruption:
    """Spoils what the decoder or the guide reads while training, never what is scored; off in evaluation."""

    def of_model(self, model: Program) -> Program:
        """The model under the corruption."""
        return model

    def of_guide(self, batch: Batch) -> Batch:
        """The batch as the guide reads it."""
        return batch
