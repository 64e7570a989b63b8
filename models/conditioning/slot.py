"""Soft tokens in the template's slot between prompt and response."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone
from ..latents import Latent
from ..memory import Memory, SoftTokens
from .linear import LinearConditioning


class SlotTokens(LinearConditioning):
    """M soft tokens between x and y, linear in the features of z [Lester et al. 2021, section 2].

    They take no position of their own: x and y keep theirs.

    Args:
        length: M, at least 1.
        init_scale: standard deviation of the first embeddings, as a share of the root mean square of the
            base's own.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        length: int = 2,
        init_scale: float = 1.0,
        strength: float = 1.0,
    ) -> None:
        if length < 1:
            raise ValueError(f"conditioning slot: length must be at least 1, got {length}")
        std = torch.full((length * backbone.embedding_size,), init_scale * backbone.embedding_scale())
        super().__init__(backbone, latent, strength, std)
        self.length = length

    def arrange(self, flat: Tensor) -> Memory:
        tokens = flat.unflatten(-1, (self.length, -1))  # (*batch, M, embedding_size)
        return Memory(tokens=SoftTokens(tokens, self.bias(self.length)))
