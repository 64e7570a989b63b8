"""Attention from the hidden states to a memory of z."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..backbone import Backbone, Edit
from ..latents import Latent
from ..memory import Memory
from .linear import LinearConditioning
from .places import Layers, layers_of


class CrossAttention(LinearConditioning):
    """``h + softmax((Q h) K(z)^T / sqrt(d)) V(z)`` where the response's hidden states enter a layer.

    M keys and M values a layer are linear in the features of z [as Vaswani et al. 2017, section 3.2.3, with z for the
    encoder's states]. Unlike a key/value prefix they do not compete with the text for attention.

    Args:
        length: M, at least 1.
        width: d, of queries and keys.
        layers: as in :class:`.Residual`.
        init_scale: standard deviation of the first values, as a share of the root mean square of the base's hidden
            states there.
        strength: factor of what is added; 0 is p0.

    Raises:
        ValueError: a length or width below 1, or a layer that is not there.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        length: int = 4,
        width: int = 16,
        layers: Layers = "all",
        init_scale: float = 0.2,
        strength: float = 1.0,
    ) -> None:
        if length < 1 or width < 1:
            raise ValueError(
                f"conditioning cross_attention: length and width must be at least 1, got {length} and {width}"
            )
        self.length, self.width = length, width
        self._places = layers_of(backbone, layers, "cross_attention")
        scales = backbone.hidden_scale(range(min(64, backbone.vocab_size, backbone.context)))
        size = backbone.layer_sizes[0]
        self._sizes = [length * width, length * size]
        std = [
            torch.full((n,), s)
            for i in self._places
            for n, s in zip(self._sizes, (1.0, init_scale * scales[i]), strict=True)
        ]
        super().__init__(backbone, latent, strength, torch.cat(std))
        self.query = nn.ParameterList(
            torch.randn(size, width) / (scales[i] * size**0.5) for i in self._places
        )

    def arrange(self, flat: Tensor) -> Memory:
        layers = flat.unflatten(-1, (len(self._places), -1)).unbind(-2)
        edits = []
        for layer, query, numbers in zip(self._places, self.query, layers, strict=True):
            keys, values = numbers.split(self._sizes, -1)
            edits.append(
                Edit(layer, "", partial(_attend, query, self.length), (keys, self.strength * values))
            )
        return Memory(edits=tuple(edits))


def _attend(query: Tensor, length: int, hidden: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    k, v = keys.unflatten(-1, (length, -1)), values.unflatten(-1, (length, -1))  # (rows, M, d), (rows, M, n)
    score = hidden @ query.to(hidden.dtype) @ k.transpose(-1, -2) / k.shape[-1] ** 0.5  # (rows, T, M)
    return score.softmax(-1) @ v
