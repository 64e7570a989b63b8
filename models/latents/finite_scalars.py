"""D numbers, each one of L levels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .finite import Finite


class FiniteScalars(Finite):
    """``z in {0, ..., L^D - 1}``, whose digits in base L are the levels of D independent coordinates.

    With ``spaced`` levels the features are D numbers, evenly from -1 to 1 [Mentzer et al. 2024, section 3.1: finite
    scalar quantisation]. Without, they are one-hot in each coordinate, so that a linear conditioning learns a
    codebook of L entries for each coordinate [Hsu et al. 2023, section 3: latent quantisation].

    Args:
        D: coordinates, at least 1.
        L: levels of each, at least 2; L^D at most 65,536.
        spaced: whether levels are numbers at even distances, rather than entries of a learned codebook.
    """

    option: ClassVar = "finite_scalars"

    def __init__(self, D: int, L: int, spaced: bool = False) -> None:
        if D < 1 or L < 2:
            raise ValueError(
                f"latent finite_scalars: D must be at least 1 and L at least 2, got D={D} and L={L}"
            )
        self.D, self.L, self.spaced = D, L, spaced
        self._check_size()

    @property
    def num_parameters(self) -> int:
        return self.D * self.L

    @property
    def num_features(self) -> int:
        return self.D if self.spaced else self.D * self.L

    @property
    def num_values(self) -> int:
        return int(self.L**self.D)

    def logits(self, parameters: Tensor) -> Tensor:
        values = torch.arange(self.num_values, device=parameters.device)
        each = parameters.unflatten(-1, (self.D, self.L)).log_softmax(-1).flatten(-2)
        return each @ self._one_hot(values).to(each.dtype).T

    def rows(self, z: Tensor) -> Tensor:
        return 2 * self._levels(z) / (self.L - 1) - 1.0 if self.spaced else self._one_hot(z).float()

    def _levels(self, z: Tensor) -> Tensor:
        base = self.L ** torch.arange(self.D, device=z.device)
        return torch.div(z[..., None], base, rounding_mode="floor") % self.L  # (*batch, D)

    def _one_hot(self, z: Tensor) -> Tensor:
        return one_hot(self._levels(z), self.L).flatten(-2)  # (*batch, D * L)
