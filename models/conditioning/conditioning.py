"""The contract of how z enters the decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..latents import Latent
from ..memory import Memory


class Conditioning(nn.Module, ABC):
    """From values of one latent to what they add to the decoder's context.

    Args:
        backbone: the LM.
        latent: the latent, whose features are mapped.
        strength: weight of the memory in attention, whose logits gain ``log(strength)``, or factor of what is added to
            hidden states; at 0 there is neither and the law is p0. It may be changed at any time.

    Raises:
        ValueError: a negative strength.
    """

    def __init__(self, backbone: Backbone, latent: Latent, strength: float = 1.0) -> None:
        super().__init__()
        self.backbone, self.latent = backbone, latent
        self.strength = strength

    @property
    def strength(self) -> float:
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        if not 0 <= value < float("inf"):
            raise ValueError(f"conditioning: strength must be finite and not negative, got {value}")
        self._strength = value

    def bias(self, length: int) -> Tensor:
        """The bias ``(length,)`` of the memory as attention keys."""
        return torch.full((length,), self._strength, device=self.backbone.device).log()

    def forward(self, z: Tensor) -> Memory:
        """The memory of values of batch shape ``batch``; nothing at strength 0."""
        return self.memory(self.latent.features(z)) if self._strength else Memory()

    @abstractmethod
    def rescale(self, factor: Tensor) -> None:
        """Multiply what each feature adds by its ``factor`` ``(num_features,)``."""

    @abstractmethod
    def memory(self, features: Tensor) -> Memory:
        """The memory of features ``(*batch, num_features)``."""
