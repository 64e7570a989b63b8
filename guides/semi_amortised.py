"""q(z|x,y) by an inference network, then by gradient steps of each datum."""

from __future__ import annotations

from torch import Tensor

from ..models import Batch, LatentLM
from .amortized import AmortizedGuide
from .refined import RefinedGuide


class SemiAmortisedGuide(RefinedGuide):
    """T gradient steps up the ELBO of the datum from the amortised law [Kim et al. 2018, algorithm 1].

    Each step costs a pass of the decoder and its backward. The steps are not differentiated through, as there.

    Args:
        model: whose latents to infer; each reparameterised.
        steps: T, at least 1.
        step_size: the first size of a step, learned from there.
        num_particles: draws of z for each step.
        pooling: as of the amortised guide.
        width: as of the amortised guide.
        every_layer: as of the amortised guide.

    Raises:
        ValueError: a latent that is not reparameterised, or a number below 1; in the program, a batch without a
            response.
    """

    def __init__(
        self,
        model: LatentLM,
        steps: int = 2,
        step_size: float = 0.1,
        num_particles: int = 1,
        pooling: str = "mean",
        width: int = 0,
        every_layer: bool = True,
    ) -> None:
        super().__init__(model, steps, step_size, num_particles)
        self.amortised = AmortizedGuide(model, pooling, width, every_layer)

    def start(self, batch: Batch) -> dict[str, Tensor]:
        return {name: reader(batch) for name, reader in self.amortised.readers.items()}
