"""What is shared by the ways of conditioning that are linear in z."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..latents import Latent
from ..memory import Memory
from .conditioning import Conditioning


class LinearConditioning(Conditioning):
    """A memory that is a linear map of the features of z: for a categorical z, a table with a row for each value.

    The map is drawn at random, so that the strategies start apart: where all are equal the gradient of the
    information is zero.

    Args:
        std: standard deviations of the first map's outputs, one for each number of the memory.
    """

    def __init__(self, backbone: Backbone, latent: Latent, strength: float, std: Tensor) -> None:
        super().__init__(backbone, latent, strength)
        self.weight = nn.Parameter(std * torch.randn(latent.num_features, len(std)))
        self.shift = nn.Parameter(torch.zeros(len(std)))

    @torch.no_grad()
    def rescale(self, factor: Tensor) -> None:
        self.weight.mul_(factor.to(self.weight)[:, None])

    def memory(self, features: Tensor) -> Memory:
        return self.arrange(features.to(self.weight.dtype) @ self.weight + self.shift)

    @abstractmethod
    def arrange(self, flat: Tensor) -> Memory:
        """The memory whose numbers are ``flat`` ``(*batch, len(std))``."""
