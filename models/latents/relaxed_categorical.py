"""One of K strategies, softened."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor

from .latent import Capability, Latent
from .simplex import check_weights, nearest_weights

LOWEST, NOISE = 80.0, 23.0
"""A log-weight below minus the first underflows in float32; the second is more than a draw's noise ever is."""


class RelaxedCategorical(Latent):
    """``z`` on the simplex of K weights by the concrete law [Maddison et al. 2017, section 3.1]; parameters are logits.

    Unlike a categorical latent whose gradient is taken by Gumbel-softmax, router and posterior are laws of the weights
    themselves: nothing is biased, and z is a mixture at the end as well. Logits are kept within ``80 T - 23`` of
    zero, beyond which a weight would underflow.

    Args:
        K: number of strategies, at least 2.
        temperature: T, from 0.4 to 10; the law piles up at the corners below ``1 / (K - 1)``.
    """

    capabilities: ClassVar = frozenset({Capability.REPARAMETERISED, Capability.SCORABLE})

    def __init__(self, K: int, temperature: float = 0.5) -> None:
        if K < 2:
            raise ValueError(f"latent relaxed_categorical: K must be at least 2, got {K}")
        if not 0.4 <= temperature <= 10:
            raise ValueError(
                f"latent relaxed_categorical: temperature must be from 0.4 to 10, got {temperature}"
            )
        self.K, self.temperature = K, temperature

    @property
    def num_parameters(self) -> int:
        return self.K

    @property
    def num_features(self) -> int:
        return self.K

    def law(self, parameters: Tensor) -> dist.TorchDistribution:
        largest = LOWEST * self.temperature - NOISE
        temperature = parameters.new_tensor(self.temperature)
        return dist.RelaxedOneHotCategorical(temperature, logits=parameters.clamp(-largest, largest))

    def nearest(self, point: Tensor) -> Tensor:
        return nearest_weights(point)

    def features(self, z: Tensor) -> Tensor:
        return check_weights(z, self.K, "latent relaxed_categorical")
