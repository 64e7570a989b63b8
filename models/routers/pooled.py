"""A head on the prompt's pooled hidden state."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ..backbone import Backbone
from ..batch import Batch
from ..latents import Latent
from ..reader import BackboneReader
from .router import GroupedRouter


class PooledRouter(GroupedRouter):
    """``p(z|x) = law(head(pool(hidden states of x)))``; the latent's reference law at the start.

    Args:
        pooling: ``mean``, ``last``, ``mean_last`` or ``attention``.
        width: of the head's hidden layer; 0 for a linear head.
        every_layer: pool the hidden states after each layer and not after the last alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        pooling: str = "last",
        width: int = 0,
        every_layer: bool = False,
    ) -> None:
        super().__init__(backbone, latent)
        self.reader = BackboneReader(
            backbone, "router", latent.num_parameters, pooling, width, response=False, every_layer=every_layer
        )

    def parameters_of(self, batch: Batch) -> Tensor:
        return self.reader(batch)

    def regroup(self, weight: Tensor, gain: Tensor, prompts: Iterable[Batch]) -> None:  # noqa: ARG002
        self.reader.regroup(weight, gain)
