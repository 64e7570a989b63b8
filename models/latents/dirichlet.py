"""A soft mixture of K strategies, by a Dirichlet law."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor

from .latent import Capability, Latent
from .simplex import check_weights, nearest_weights


class Dirichlet(Latent):
    """``z`` on the simplex of K weights; parameters are log concentrations, kept within -2 and 5.

    Zeros give the uniform law. Draws have implicit gradients [Figurnov et al. 2018, section 4].

    Args:
        K: strategies that are mixed, at least 2.
    """

    capabilities: ClassVar = frozenset({Capability.REPARAMETERISED, Capability.SCORABLE})

    def __init__(self, K: int) -> None:
        if K < 2:
            raise ValueError(f"latent dirichlet: K must be at least 2, got {K}")
        self.K = K

    @property
    def num_parameters(self) -> int:
        return self.K

    @property
    def num_features(self) -> int:
        return self.K

    def law(self, parameters: Tensor) -> dist.TorchDistribution:
        return dist.Dirichlet(parameters.clamp(-2, 5).exp())

    def nearest(self, point: Tensor) -> Tensor:
        return nearest_weights(point)

    def features(self, z: Tensor) -> Tensor:
        return check_weights(z, self.K, "latent dirichlet")
