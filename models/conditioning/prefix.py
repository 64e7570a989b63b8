"""Keys and values at every layer, a linear map of z."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone, KeyValues
from ..latents import Latent
from ..memory import Memory
from .linear import LinearConditioning


class KeyValuePrefix(LinearConditioning):
    """M keys and M values in each layer, linear in the features of z [Li & Liang 2021, section 4].

    Args:
        length: M, at least 1.
        init_scale: standard deviation of the first keys and values, as a share of the root mean square of the
            base's own in that layer.
        rank: of the map from the features of z, for fewer parameters; full where not given.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        length: int = 4,
        init_scale: float = 1.0,
        strength: float = 1.0,
        rank: int | None = None,
    ) -> None:
        if length < 1:
            raise ValueError(f"conditioning prefix: length must be at least 1, got {length}")
        ids = list(range(min(64, backbone.vocab_size, backbone.context)))
        scales = backbone.key_value_scale(ids)
        sizes = [(heads * length * dim, key, value) for (heads, dim), key, value in scales]
        std = torch.cat([torch.full((n,), s) for n, key, value in sizes for s in (key, value)])
        super().__init__(backbone, latent, strength, init_scale * std, rank)
        self.length = length
        self._shapes = [shape for shape, _, _ in scales for _ in range(2)]

    def arrange(self, flat: Tensor) -> Memory:
        pieces = flat.split([heads * self.length * dim for heads, dim in self._shapes], -1)
        parts = [
            piece.unflatten(-1, (heads, self.length, dim))  # (*batch, heads, M, head_dim)
            for piece, (heads, dim) in zip(pieces, self._shapes, strict=True)
        ]
        return Memory(KeyValues(tuple(parts[::2]), tuple(parts[1::2])), self.bias(self.length))
