"""One of K strategies."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor
from torch.nn.functional import one_hot

from .latent import Capability, Latent


class Categorical(Latent):
    """``z in {0, ..., K-1}``; parameters are logits, features one-hot.

    Args:
        K: number of strategies, at least 2.
    """

    capabilities: ClassVar = frozenset({Capability.ENUMERABLE, Capability.SCORABLE})

    def __init__(self, K: int) -> None:
        if K < 2:
            raise ValueError(
                f"latent categorical: K must be at least 2, got {K}; one strategy is the base itself"
            )
        self.K = K

    @property
    def num_parameters(self) -> int:
        return self.K

    @property
    def num_features(self) -> int:
        return self.K

    def law(self, parameters: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=parameters)

    def features(self, z: Tensor) -> Tensor:
        if ((z < 0) | (z >= self.K) | (z != z.floor())).any():
            raise ValueError(f"latent categorical: z must be in 0..{self.K - 1}, got {z.unique().tolist()}")
        return one_hot(z.long(), self.K).float()
