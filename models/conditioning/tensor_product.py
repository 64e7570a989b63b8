"""A low-rank product of hidden states and z, added to the hidden states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..backbone import Backbone, Edit, LowRank
from ..latents import Latent
from ..memory import Memory
from .linear import LinearConditioning
from .low_rank import low_rank
from .places import Layers, layers_of


class TensorProduct(LinearConditioning):
    """``h + C ((A h) * (B z))`` where the response's hidden states enter a layer, A, B and C of rank R.

    The low-rank tensor product of DELLA [Hu et al. 2022, section 3.3], which is there the value of the attention: z
    acts on what a hidden state says, where :class:`.Residual` says the same at each token.

    Args:
        rank: R, at least 1.
        layers: as in :class:`.Residual`.
        init_scale: standard deviation of the first factors of z; at 1 what is added is as large as the hidden state.
        strength: factor of what is added; 0 is p0.

    Raises:
        ValueError: a rank below 1, or a layer that is not there.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        rank: int = 16,
        layers: Layers = "all",
        init_scale: float = 0.1,
        strength: float = 1.0,
    ) -> None:
        if rank < 1:
            raise ValueError(f"conditioning tensor_product: rank must be at least 1, got {rank}")
        self._places = layers_of(backbone, layers, "tensor_product")
        super().__init__(backbone, latent, strength, init_scale * torch.ones(rank * len(self._places)))
        width = backbone.layer_sizes[0]
        down, up = low_rank([(width, width, width**-0.5)] * len(self._places), rank, 1.0)
        self.down, self.up = nn.ParameterList(down), nn.ParameterList(up)

    def arrange(self, flat: Tensor) -> Memory:
        factors = (self.strength * flat).unflatten(-1, (len(self._places), -1)).unbind(-2)
        return Memory(
            edits=tuple(
                Edit(layer, "", LowRank(down, up), (factor,))
                for layer, down, up, factor in zip(self._places, self.down, self.up, factors, strict=True)
            )
        )
