"""A low-rank change of the decoder's linear maps for each feature of z, mixed by the features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbone import Backbone, Edit, LowRank
from ..latents import Latent
from ..memory import Memory
from .conditioning import Conditioning
from .low_rank import linear_maps_of, low_rank


class LoraExperts(Conditioning):
    """``W x + sum_i f_i(z) B_i A_i x`` in place of ``W x`` in the response's pass, f the features of z.

    An expert of its own for each strategy where features are one-hot, a mixture of them where they are weights. No two
    features share anything, where :class:`.ModulatedLora` shares all but the scales.

    Args:
        rank: of each expert's change, at least 1 [Hu et al. 2022].
        layers: as in :class:`.Residual`.
        targets: ends of the names of the linear maps (``q_proj``); all of a layer where empty.
        init_scale: of the first changes, at 1 as large as the map's own output.
        strength: factor of the changes; 0 is p0.

    Raises:
        ValueError: a rank below 1, or layers or targets that are not there.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        rank: int = 2,
        layers: str | Sequence[int] = "all",
        targets: Sequence[str] = (),
        init_scale: float = 0.3,
        strength: float = 1.0,
    ) -> None:
        super().__init__(backbone, latent, strength)
        self.rank = rank
        found = linear_maps_of(backbone, layers, targets, rank, "lora_experts")
        self._places = list(found)
        down, up = low_rank(found.values(), latent.num_features * rank, init_scale * latent.num_features**0.5)
        self.down, self.up = nn.ParameterList(down), nn.ParameterList(up)

    @torch.no_grad()
    def rescale(self, factor: Tensor) -> None:
        for up in self.up:
            up.mul_(factor.to(up).repeat_interleave(self.rank)[:, None])

    def memory(self, features: Tensor) -> Memory:
        scale = self.strength * features.to(self.down[0].dtype).repeat_interleave(self.rank, -1)
        return Memory(
            edits=tuple(
                Edit(layer, name, LowRank(down, up), (scale,))
                for (layer, name), down, up in zip(self._places, self.down, self.up, strict=True)
            )
        )
