"""q(z|x,y) by an inference network on the LM's own hidden states."""

from __future__ import annotations

import pyro
from pyro.distributions import TorchDistribution
from torch import nn

from ..models import Batch, LatentLM, Reader


class AmortizedGuide(nn.Module):
    """``q(z_i|x,y) = law(head(pool(hidden states of y after x)))``, independent over the latents.

    The network runs in the backbone's role ``posterior``; each latent has its own head, at the latent's
    reference law at the start.

    Args:
        model: whose latents to infer.
        pooling: ``mean``, ``last``, ``mean_last`` or ``attention``, over the response.
        width: of each head's hidden layer; 0 for a linear head.
        every_layer: read the hidden states after each layer and not after the last alone.

    Raises:
        ValueError: in the program, a batch without a response.
    """

    def __init__(
        self, model: LatentLM, pooling: str = "mean", width: int = 0, every_layer: bool = True
    ) -> None:
        super().__init__()
        self.latents = dict(model.latents)
        self.readers = nn.ModuleDict(
            {
                name: Reader(
                    model.backbone,
                    "posterior",
                    latent.num_parameters,
                    pooling,
                    width,
                    response=True,
                    every_layer=every_layer,
                )
                for name, latent in model.latents.items()
            }
        )

    def posterior(self, batch: Batch) -> dict[str, TorchDistribution]:
        """``q(z|x,y)`` of each latent, of batch shape ``(B,)``."""
        return {name: self.latents[name].law(reader(batch)) for name, reader in self.readers.items()}

    def guide(self, batch: Batch) -> None:
        """The guide program."""
        with pyro.plate("data", len(batch), dim=-1):
            for name, law in self.posterior(batch).items():
                pyro.sample(name, law)

    forward = guide
