"""Keys and values at every layer, position by position, beside a short history."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..backbone import Backbone
from ..latents import Latent
from ..memory import Memory
from .prefix import KeyValuePrefix


class PositionMemory(KeyValuePrefix):
    """A key and a value in each layer for each place of the response, which sees w tokens of itself.

    At place t the response sees the first t + 1 keys, the prompt, and its last w tokens: what it has said before it has
    to read from z. With w = 2 this is how LangVAE decodes, there token by token [Carvalho et al. 2025]; here it is one
    pass under a mask. Beyond the last key all are seen. Cutting the history alone moves the law away from p0, at any z.

    Args:
        length: keys, at least 1; the tokens of a response, for one at each place.
        window: w, at least 1.
        init_scale: as of a key/value prefix.
        rank: as of a key/value prefix.
        strength: weight of the keys in attention; 0 is p0, with all of its history.

    Raises:
        ValueError: a length or a window below 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        length: int = 32,
        window: int = 1,
        init_scale: float = 1.0,
        strength: float = 1.0,
        rank: int | None = None,
    ) -> None:
        if window < 1:
            raise ValueError(f"conditioning position_memory: window must be at least 1, got {window}")
        super().__init__(backbone, latent, length, init_scale, strength, rank)
        self.window = window

    def arrange(self, flat: Tensor) -> Memory:
        places = torch.arange(self.length, device=flat.device, dtype=torch.float32)
        return replace(super().arrange(flat), places=places, window=self.window)
