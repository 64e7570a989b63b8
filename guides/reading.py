"""What guides that read the response have in common."""

from __future__ import annotations

from collections.abc import Callable

import pyro
from pyro.distributions import TorchDistribution
from torch import nn

from ..models import Batch, LatentLM, Reader, VampPrior


class ReadingGuide(nn.Module):
    """``q(z_i|x,y) = law(reader_i(x,y))``, independent over the latents.

    Args:
        model: whose latents to infer.
        make: the reader of a latent, that gives as many numbers as it is told.
    """

    def __init__(self, model: LatentLM, make: Callable[[int], Reader]) -> None:
        super().__init__()
        self.latents = dict(model.latents)
        readers = {name: make(latent.num_parameters) for name, latent in model.latents.items()}
        self.readers = nn.ModuleDict(readers)
        routers: dict[str, nn.Module] = dict(
            getattr(model, "routers", {})
        )  # a user's own program may have none
        for name, router in routers.items():
            if isinstance(router, VampPrior):
                router.bind(readers[name])

    def posterior(self, batch: Batch) -> dict[str, TorchDistribution]:
        """``q(z|x,y)`` of each latent, of batch shape ``(B,)``."""
        batch = batch.shared()
        return {name: self.latents[name].law(reader(batch)) for name, reader in self.readers.items()}

    def guide(self, batch: Batch) -> None:
        """The guide program."""
        with pyro.plate("data", len(batch), dim=-1):
            for name, law in self.posterior(batch).items():
                pyro.sample(name, law)

    forward = guide
