"""A vector added to the hidden states."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone, Edit
from ..latents import Latent
from ..memory import Memory
from .linear import LinearConditioning
from .places import Layers, layers_of


class Residual(LinearConditioning):
    """A vector, linear in the features of z, added to the response's hidden states where they enter a layer.

    Args:
        layers: which: ``all``, ``middle`` [Fleuret 2025], ``first``, where it is added to the embeddings [Li et al.
            2020, section 3.1], or a list of their numbers.
        init_scale: standard deviation of the first vectors, as a share of the root mean square of the base's hidden
            states there.
        strength: factor of the vectors; 0 is p0.

    Raises:
        ValueError: a layer that is not there.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        layers: Layers = "all",
        init_scale: float = 0.1,
        strength: float = 1.0,
    ) -> None:
        self._places = layers_of(backbone, layers, "residual")
        scales = backbone.hidden_scale(range(min(64, backbone.vocab_size, backbone.context)))
        width = backbone.layer_sizes[0]
        std = torch.cat([torch.full((width,), init_scale * scales[i]) for i in self._places])
        super().__init__(backbone, latent, strength, std)

    def arrange(self, flat: Tensor) -> Memory:
        vectors = flat.unflatten(-1, (len(self._places), -1)).unbind(-2)
        return Memory(
            edits=tuple(
                Edit(layer, "", _same_everywhere, (self.strength * vector,))
                for layer, vector in zip(self._places, vectors, strict=True)
            )
        )


def _same_everywhere(hidden: Tensor, vector: Tensor) -> Tensor:
    return vector[:, None].expand_as(hidden)
