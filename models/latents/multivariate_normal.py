"""A Gaussian vector whose coordinates depend on each other."""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor

from .latent import Capability, Latent

SHARE = 0.5
"""Of a factor's first coefficient, whose square is taken off the diagonal at the start."""


MOST = 10.0
"""Of a coefficient on a coordinate before; a larger one has no inverse to single precision."""


class MultivariateNormal(Latent):
    """``z in R^D`` with a full covariance, or a diagonal one plus one of low rank; zeros give ``N(0, I)``.

    - full: parameters are D means, D log standard deviations given the coordinates before, s, and the D (D - 1) / 2
      entries of a strictly lower triangle N, kept within -10 and 10; the Cholesky factor is ``diag(s) (I + N)``;
    - of rank R: D means, D log standard deviations and the D x R entries of a factor F, with the covariance
      ``diag(s^2 (1 - c^2 e)) + (cE + F) (cE + F)^T``, where E has the first R unit vectors as columns, e is 1 on
      these coordinates and c is 0.5. At F = 0 it is ``diag(s^2)`` where s is 1, and its gradient in F is not zero,
      as that of ``F F^T`` would be.

    Args:
        D: dimensions, at least 1.
        rank: R, from 1 to D; full where not given.
    """

    capabilities: ClassVar = frozenset({Capability.REPARAMETERISED, Capability.SCORABLE})

    def __init__(self, D: int, rank: int | None = None) -> None:
        if D < 1:
            raise ValueError(f"latent multivariate_normal: D must be at least 1, got {D}")
        if rank is not None and not 1 <= rank <= D:
            raise ValueError(f"latent multivariate_normal: rank must be from 1 to D={D}, got {rank}")
        self.D, self.rank = D, rank

    @property
    def num_parameters(self) -> int:
        return 2 * self.D + (self.D * (self.D - 1) // 2 if self.rank is None else self.D * self.rank)

    @property
    def num_features(self) -> int:
        return self.D

    def law(self, parameters: Tensor) -> dist.TorchDistribution:
        D = self.D
        loc, log_scale, rest = parameters.split([D, D, self.num_parameters - 2 * D], -1)
        scale = log_scale.clamp(-10, 5).exp()
        if self.rank is None:
            row, column = torch.tril_indices(D, D, -1, device=parameters.device)
            factor = torch.eye(D, dtype=scale.dtype, device=scale.device).repeat(*scale.shape[:-1], 1, 1)
            factor[..., row, column] = MOST * (rest / MOST).tanh()
            return dist.MultivariateNormal(loc, scale_tril=scale[..., None] * factor)
        start = SHARE * torch.eye(D, self.rank, dtype=parameters.dtype, device=parameters.device)
        factor = start + rest.unflatten(-1, (D, self.rank))
        return dist.LowRankMultivariateNormal(loc, factor, scale.square() * (1 - start.square().sum(-1)))

    def features(self, z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.D,):
            raise ValueError(
                f"latent multivariate_normal: expected z of shape (*, {self.D}), got {tuple(z.shape)}"
            )
        return z
