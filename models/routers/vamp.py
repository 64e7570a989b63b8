"""A mixture of posteriors as the prior."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..backbone import Backbone
from ..batch import Batch
from ..latents import Latent
from ..reader import Reader
from .mixture import check_members
from .router import Router


class VampPrior(Router):
    """``p(z) = (1/C) sum_c q(z | u_c)``: the guide's own laws at C learned inputs [Tomczak & Welling 2018, eq. 9].

    Such a pseudo-input is what the guide's head would be given of a datum, its pooled and standardised hidden states,
    since a text cannot be learned by its gradient. Head and pseudo-inputs are learned through the prior as well.

    Args:
        components: C, at least 2.

    Raises:
        ValueError: fewer than two, or a latent of finitely many values, whose mixtures are members themselves; in the
            program, a guide without a head on the response, such as ``exact``.
    """

    def __init__(self, backbone: Backbone, latent: Latent, components: int = 16) -> None:
        super().__init__(backbone, latent)
        check_members(latent, components, "vamp")
        self.components = components
        self._readers: list[Reader] = []

    def bind(self, reader: Reader) -> None:
        """Take the guide's reader of the latent, whose head makes laws of the pseudo-inputs."""
        self._readers = [reader]
        size = reader.centre
        self.inputs = nn.Parameter(
            torch.randn(self.components, len(size), dtype=size.dtype, device=size.device)
        )

    def parameters_of(self, batch: Batch) -> Tensor:
        """Parameters of the members, ``(B, C, num_parameters)``."""
        if not self._readers:
            raise ValueError(
                "router vamp: the guide has no head on the response that the prior could be made of; use "
                "guide=amortized or guide=encoder"
            )
        return self._readers[0].head(self.inputs).expand(len(batch), -1, -1)

    def forward(self, batch: Batch) -> TorchDistribution:
        members = self.latent.law(self.parameters_of(batch))
        weights = torch.zeros(members.batch_shape, device=batch.prompt.device)
        return dist.MixtureSameFamily(dist.Categorical(logits=weights), members)
