"""Laws of z that do not look at the prompt."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..batch import Batch
from ..latents import Latent
from ..regrouped import regrouped
from .router import GroupedRouter


class LearnedPrior(GroupedRouter):
    """``p(z)``, learned, the same for every x; the latent's reference law at the start."""

    def __init__(self, backbone: Backbone, latent: Latent) -> None:
        super().__init__(backbone, latent)
        self.law_parameters = nn.Parameter(torch.zeros(latent.num_parameters))

    def parameters_of(self, batch: Batch) -> Tensor:
        return self.law_parameters.expand(len(batch), -1)

    def regroup(self, weight: Tensor, gain: Tensor, prompts: Iterable[Batch]) -> None:  # noqa: ARG002
        self.law_parameters = regrouped(self.law_parameters, weight, gain)


class UniformPrior(GroupedRouter):
    """The latent's reference law, fixed: uniform over K strategies, standard normal."""

    def parameters_of(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch), self.latent.num_parameters, device=batch.prompt.device)

    def regroup(self, weight: Tensor, gain: Tensor, prompts: Iterable[Batch]) -> None:
        """It stays uniform."""
