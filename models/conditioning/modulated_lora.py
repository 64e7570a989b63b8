"""Low-rank changes of the decoder's linear maps, scaled by z."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbone import Backbone, Edit, LowRank
from ..latents import Latent
from ..memory import Memory
from .linear import LinearConditioning
from .low_rank import linear_maps_of, low_rank


class ModulatedLora(LinearConditioning):
    """``W x + B (g(z) * A x)`` in place of ``W x`` in the response's pass, with g linear in the features of z.

    The matrices A and B of rank R [Hu et al. 2022] are shared by all z; the R scales of each map are z's.

    Args:
        rank: R, at least 1.
        layers: as in :class:`.Residual`.
        targets: ends of the names of the linear maps (``q_proj``); all of a layer where empty.
        init_scale: standard deviation of the first scales; at 1 a change is as large as the map's own output.
        strength: factor of the change; 0 is p0.

    Raises:
        ValueError: a rank below 1, or layers or targets that are not there.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        rank: int = 4,
        layers: str | Sequence[int] = "all",
        targets: Sequence[str] = (),
        init_scale: float = 0.3,
        strength: float = 1.0,
    ) -> None:
        found = linear_maps_of(backbone, layers, targets, rank, "modulated_lora")
        super().__init__(backbone, latent, strength, init_scale * torch.ones(rank * len(found)))
        self._places = list(found)
        down, up = low_rank(found.values(), rank, 1.0)
        self.down, self.up = nn.ParameterList(down), nn.ParameterList(up)

    def arrange(self, flat: Tensor) -> Memory:
        scales = (self.strength * flat).unflatten(-1, (len(self._places), -1)).unbind(-2)
        return Memory(
            edits=tuple(
                Edit(layer, name, LowRank(down, up), (scale,))
                for (layer, name), down, up, scale in zip(
                    self._places, self.down, self.up, scales, strict=True
                )
            )
        )
