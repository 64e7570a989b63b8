"""A soft mixture of K strategies, by a Gaussian vector."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from .normal import Normal


class LogisticNormal(Normal):
    """``z in R^(K-1)`` with independent Gaussian coordinates; features are the weights ``softmax(z, 0)``.

    The weights have a logistic-normal law [Atchison & Shen 1980]; z itself is what is drawn and scored, so that no
    Jacobian is needed. Parameters are those of the Gaussian.

    Args:
        K: strategies that are mixed, at least 2.
    """

    def __init__(self, K: int) -> None:
        if K < 2:
            raise ValueError(f"latent logistic_normal: K must be at least 2, got {K}")
        super().__init__(K - 1)
        self.K = K

    @property
    def num_features(self) -> int:
        return self.K

    def features(self, z: Tensor) -> Tensor:
        return pad(super().features(z), (0, 1)).softmax(-1)
