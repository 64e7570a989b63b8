"""A vector of independent Gaussian coordinates."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor

from .latent import Capability, Latent


class Normal(Latent):
    """``z in R^D`` with independent coordinates; parameters are means and log standard deviations.

    Args:
        D: dimensions, at least 1.
    """

    capabilities: ClassVar = frozenset({Capability.REPARAMETERISED, Capability.SCORABLE})

    def __init__(self, D: int) -> None:
        if D < 1:
            raise ValueError(f"latent normal: D must be at least 1, got {D}")
        self.D = D

    @property
    def num_parameters(self) -> int:
        return 2 * self.D

    @property
    def num_features(self) -> int:
        return self.D

    def law(self, parameters: Tensor) -> dist.TorchDistribution:
        loc, log_scale = parameters.chunk(2, -1)
        return dist.Normal(loc, log_scale.clamp(-10, 5).exp()).to_event(1)

    def features(self, z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.D,):
            raise ValueError(f"latent normal: expected z of shape (*, {self.D}), got {tuple(z.shape)}")
        return z
