"""One of K strategies."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import one_hot

from .finite import Finite


class Categorical(Finite):
    """``z in {0, ..., K-1}``; parameters are logits, features one-hot.

    Args:
        K: number of strategies, at least 2.
    """

    option: ClassVar = "categorical"

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

    @property
    def num_values(self) -> int:
        return self.K

    def logits(self, parameters: Tensor) -> Tensor:
        return parameters

    def rows(self, z: Tensor) -> Tensor:
        return one_hot(z, self.K).float()

    def mixture(self, weights: Tensor) -> Tensor:
        return weights
