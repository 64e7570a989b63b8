"""q(z|x,y) of latents one after the other."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ..models import BackboneReader, Batch, Carry, LatentProgram


class AutoregressiveGuide(nn.Module):
    """``q(z_0|x,y) q(z_1|x,y,z_0) ...``: each law on the hidden states of y after x, moved by the values before it.

    Args:
        model: whose latents to infer, named in the order in which it draws them.
        pooling: as of the amortised guide.
        width: as of the amortised guide.
        every_layer: as of the amortised guide.

    Raises:
        ValueError: in the program, a batch without a response.
    """

    def __init__(
        self, model: LatentProgram, pooling: str = "mean", width: int = 0, every_layer: bool = True
    ) -> None:
        super().__init__()
        self.latents = dict(model.latents)
        self.readers = nn.ModuleDict(
            {
                name: BackboneReader(
                    model.backbone, "posterior", latent.num_parameters, pooling, width, True, every_layer
                )
                for name, latent in self.latents.items()
            }
        )
        self.carry = Carry(list(self.latents.values()))

    def forward(self, batch: Batch) -> None:
        """The guide program."""
        z: list[Tensor] = []
        batch = batch.shared()
        with pyro.plate("data", len(batch), dim=-1):
            for name, latent in self.latents.items():
                z.append(pyro.sample(name, latent.law(self.carry(self.readers[name](batch), z))))
