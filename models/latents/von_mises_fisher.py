"""A direction."""

from __future__ import annotations

from typing import ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..laws import VonMisesFisherLaw
from .latent import Capability, Latent

LARGEST = 1000.0
"""Concentration beyond which a law is no longer told from a point."""


class VonMisesFisher(Latent):
    """``z`` on the unit sphere of D dimensions [Davidson et al. 2018]; parameters are the natural ones, ``k mu``.

    Zeros give the uniform law, whose divergence from a posterior cannot be made small by moving z: z is used, or the
    posterior is uniform. The concentration k is at most 1,000.

    Args:
        D: dimensions of the space, at least 2.
    """

    capabilities: ClassVar = frozenset({Capability.REPARAMETERISED, Capability.SCORABLE})

    def __init__(self, D: int) -> None:
        if D < 2:
            raise ValueError(f"latent von_mises_fisher: D must be at least 2, got {D}")
        self.D = D

    @property
    def num_parameters(self) -> int:
        return self.D

    @property
    def num_features(self) -> int:
        return self.D

    def law(self, parameters: Tensor) -> TorchDistribution:
        length = parameters.norm(dim=-1, keepdim=True).detach()
        return VonMisesFisherLaw(parameters * (LARGEST / length.clamp(min=LARGEST)))

    def nearest(self, point: Tensor) -> Tensor:
        return VonMisesFisherLaw(point).direction

    def features(self, z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.D,) or ((z.norm(dim=-1) - 1).abs() > 1e-3).any():
            raise ValueError(
                f"latent von_mises_fisher: expected unit vectors of shape (*, {self.D}), got shape {tuple(z.shape)} "
                f"and lengths from {float(z.norm(dim=-1).min()):.4g} to {float(z.norm(dim=-1).max()):.4g}"
            )
        return z
