"""What latents with finitely many values have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

from .latent import Capability, Latent
from .simplex import check_weights

MOST = 2**16
"""Values at most: each has its row in every law of a batch."""


class Finite(Latent):
    """``z in {0, ..., P-1}``, each value with its row of features.

    A relaxed value is P weights that sum to one: a mixture of the values, whose features are the mixture of theirs.

    Attributes:
        option: the family's name in the configuration, for messages.
    """

    capabilities: ClassVar = frozenset({Capability.ENUMERABLE, Capability.SCORABLE, Capability.RELAXABLE})
    option: ClassVar[str]

    @property
    @abstractmethod
    def num_values(self) -> int: ...

    @abstractmethod
    def logits(self, parameters: Tensor) -> Tensor:
        """``(*batch, P)`` of parameters ``(*batch, num_parameters)``, up to a constant."""

    @abstractmethod
    def rows(self, z: Tensor) -> Tensor:
        """``(*batch, num_features)`` of integers in ``0 ... P-1``."""

    def mixture(self, weights: Tensor) -> Tensor:
        """``(*batch, num_features)`` of weights ``(*batch, P)``."""
        return weights @ self.rows(torch.arange(self.num_values, device=weights.device)).to(weights.dtype)

    def law(self, parameters: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=self.logits(parameters))

    def features(self, z: Tensor) -> Tensor:
        if z.is_floating_point():
            size = self.num_values
            if z.shape[-1:] != (size,):
                raise ValueError(
                    f"latent {self.option}: z must be in 0..{size - 1}, got {z.unique().tolist()} of type {z.dtype}; "
                    f"give a strategy as an integer, or {size} weights for a mixture of them"
                )
            given = check_weights(z, size, f"latent {self.option}", ". Give a strategy as an integer")
            return self.mixture(given)
        if ((z < 0) | (z >= self.num_values)).any():
            raise ValueError(
                f"latent {self.option}: z must be in 0..{self.num_values - 1}, got {z.unique().tolist()}"
            )
        return self.rows(z.long())

    def _check_size(self) -> None:
        if self.num_values > MOST:
            raise ValueError(
                f"latent {self.option}: {self.num_values} values, each with its place in every law; expected at most "
                f"{MOST}"
            )
