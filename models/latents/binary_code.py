"""A code of H bits: two to the power of H strategies."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from .finite import Finite


class BinaryCode(Finite):
    """``z in {0, ..., 2^H - 1}``, bit h of which is 1 with probability ``sigmoid(parameter_h)``, independently.

    Features are the bits as -1 and 1, so that strategies with a bit in common have something in common in the
    decoder. The 2^H values are summed over or drawn like those of any finite latent; the posterior by Bayes' rule
    need not be independent in the bits, the router and an amortised guide are.

    Args:
        H: bits, at least 1 and at most 16.
    """

    option: ClassVar = "binary_code"

    def __init__(self, H: int) -> None:
        if H < 1:
            raise ValueError(f"latent binary_code: H must be at least 1, got {H}")
        self.H = H
        self._check_size()

    @property
    def num_parameters(self) -> int:
        return self.H

    @property
    def num_features(self) -> int:
        return self.H

    @property
    def num_values(self) -> int:
        return 1 << self.H

    def logits(self, parameters: Tensor) -> Tensor:
        values = torch.arange(self.num_values, device=parameters.device)
        return parameters @ self._bits(values).to(parameters.dtype).T

    def rows(self, z: Tensor) -> Tensor:
        return 2.0 * self._bits(z) - 1.0

    def _bits(self, z: Tensor) -> Tensor:
        return (z[..., None] >> torch.arange(self.H, device=z.device)) & 1  # (*batch, H)
