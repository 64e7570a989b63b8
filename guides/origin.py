"""q(z|x,y) without an encoder, by the gradient at one place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models import Batch, LatentLM
from .refined import RefinedGuide


class OriginGuide(RefinedGuide):
    """The law at the origin, moved along the gradient of the ELBO of the datum there [Bond-Taylor & Willcocks 2021].

    The decoder is the encoder: what would make y likelier at the origin is what y says of z. With one step and z at
    the origin's mean this is their eq. 2, with learned step sizes; origin and step sizes are all that is learned.

    Args:
        model: whose latents to infer; each reparameterised.
        steps: at least 1.
        step_size: the first size of a step, learned from there.
        num_particles: draws of z for each step.

    Raises:
        ValueError: a latent that is not reparameterised, or a number below 1; in the program, a batch without a
            response.
    """

    def __init__(
        self, model: LatentLM, steps: int = 1, step_size: float = 0.1, num_particles: int = 4
    ) -> None:
        super().__init__(model, steps, step_size, num_particles)
        sizes = {name: latent.num_parameters for name, latent in model.latents.items()}
        self.origin = nn.ParameterDict({name: torch.zeros(size) for name, size in sizes.items()})

    def start(self, batch: Batch) -> dict[str, Tensor]:
        return {name: value.expand(len(batch), -1) for name, value in self.origin.items()}
