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
        rank: of the map, which then is a product of two matrices; full where not given.

    Raises:
        ValueError: a rank below 1.
    """

    def __init__(
        self, backbone: Backbone, latent: Latent, strength: float, std: Tensor, rank: int | None = None
    ) -> None:
        super().__init__(backbone, latent, strength)
        if rank is not None and rank < 1:
            raise ValueError(f"conditioning: rank must be at least 1, got {rank}")
        self.weight = nn.Parameter(torch.randn(latent.num_features, rank or len(std)))
        self.basis = None if rank is None else nn.Parameter(std * torch.randn(rank, len(std)) / rank**0.5)
        if rank is None:
            self.weight.data.mul_(std)
        self.shift = nn.Parameter(torch.zeros(len(std)))

    @torch.no_grad()
    def rescale(self, factor: Tensor) -> None:
        self.weight.mul_(factor.to(self.weight)[:, None])

    def memory(self, features: Tensor) -> Memory:
        flat = features.to(self.weight.dtype) @ self.weight
        return self.arrange((flat if self.basis is None else flat @ self.basis) + self.shift)

    @abstractmethod
    def arrange(self, flat: Tensor) -> Memory:
        """The memory whose numbers are ``flat`` ``(*batch, len(std))``."""
