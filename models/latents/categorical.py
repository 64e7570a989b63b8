"""One of K strategies."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
from torch import Tensor
from torch.nn.functional import one_hot

from .latent import Capability, Latent

ROUNDING = 1e-3
"""How far the weights of a relaxed value may be from a point of the simplex."""


class Categorical(Latent):
    """``z in {0, ..., K-1}``; parameters are logits, features one-hot.

    A relaxed value is K weights that sum to one, and its own features: a mixture of the strategies.

    Args:
        K: number of strategies, at least 2.
    """

    capabilities: ClassVar = frozenset({Capability.ENUMERABLE, Capability.SCORABLE, Capability.RELAXABLE})

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
        if z.is_floating_point():
            return self._relaxed(z)
        if ((z < 0) | (z >= self.K)).any():
            raise ValueError(f"latent categorical: z must be in 0..{self.K - 1}, got {z.unique().tolist()}")
        return one_hot(z.long(), self.K).float()

    def _relaxed(self, z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.K,):
            raise ValueError(
                f"latent categorical: z must be in 0..{self.K - 1}, got {z.unique().tolist()} of type {z.dtype}; "
                f"give a strategy as an integer, or {self.K} weights for a mixture of them"
            )
        if not ((z >= -ROUNDING).all(-1) & ((z.sum(-1) - 1).abs() <= ROUNDING)).all():
            raise ValueError(
                f"latent categorical: {self.K} weights of strategies must not be negative and must sum to 1; got "
                f"weights from {float(z.min()):.4g} on, sums from {float(z.sum(-1).min()):.4g} to "
                f"{float(z.sum(-1).max()):.4g}. Give a strategy as an integer"
            )
        return z
