"""A mixture of laws of z, the same for every prompt."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..backbone import Backbone
from ..batch import Batch
from ..latents import Capability, Latent
from .router import Router


class MixturePrior(Router):
    """``p(z) = sum_c w_c law(parameters_c)``: C members of the latent's family, weights and parameters learned.

    Of Gaussians, the prior of Dilokthanakul et al. [2016, section 3.1]. Where a posterior needs a
    divergence from it in closed form there is none, and draws are used.

    Args:
        components: C, at least 2.
        spread: standard deviation of the first parameters, in which the members have to differ to part.

    Raises:
        ValueError: fewer than two members, or a latent of finitely many values, whose mixtures are members themselves.
    """

    def __init__(self, backbone: Backbone, latent: Latent, components: int = 8, spread: float = 0.5) -> None:
        super().__init__(backbone, latent)
        check_members(latent, components, "mixture")
        self.logits = nn.Parameter(torch.zeros(components))
        self.members = nn.Parameter(spread * torch.randn(components, latent.num_parameters))

    def parameters_of(self, batch: Batch) -> Tensor:
        """Log-weights and parameters of the members, ``(B, C, 1 + num_parameters)``."""
        rows = torch.cat([self.logits.log_softmax(0)[:, None], self.members], 1)
        return rows.expand(len(batch), -1, -1)

    def forward(self, batch: Batch) -> TorchDistribution:
        rows = self.parameters_of(batch)
        return dist.MixtureSameFamily(dist.Categorical(logits=rows[..., 0]), self.latent.law(rows[..., 1:]))


def check_members(latent: Latent, components: int, option: str) -> None:
    """Refuse a mixture of fewer than two members, or of a family whose mixtures are members.

    Raises:
        ValueError: either.
    """
    if components < 2:
        raise ValueError(f"router {option}: components must be at least 2, got {components}")
    if Capability.ENUMERABLE in latent.capabilities:
        raise ValueError(
            f"router {option}: latent {type(latent).__name__} has finitely many values, whose mixtures it has "
            "already; use router=learned"
        )
