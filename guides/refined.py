"""Laws of z brought nearer to the posterior by gradient steps of their own, datum by datum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..models import Batch, Capability, LatentLM
from .checks import check_no_vamp, check_router_and_decoder

LARGEST = 5.0
"""Norm that the gradient of a datum is cut to."""


class RefinedGuide(nn.Module):
    """``q(z|x,y) = law(parameters)``, the parameters after T steps up the ELBO of the datum from those of a start.

    The gradients that are stepped along are constants to the fit, so that what it learns is the start, and a step size
    for each parameter of a law. They are at the same draws every time, so that the law is a function of x and y.

    Args:
        model: whose latents to infer; each reparameterised.
        steps: T, at least 1.
        step_size: the first size.
        num_particles: draws of z for each gradient.

    Raises:
        ValueError: a latent that is not reparameterised, a number below 1, a model without router and decoder, or
            a prior that is made of the guide's laws.
    """

    def __init__(self, model: LatentLM, steps: int, step_size: float, num_particles: int) -> None:
        super().__init__()
        if steps < 1 or num_particles < 1 or not step_size > 0:
            raise ValueError(
                f"guide: expected steps and num_particles of at least 1 and a step_size above 0, got {steps}, "
                f"{num_particles} and {step_size}"
            )
        check_router_and_decoder(model)
        check_no_vamp(model)
        enumerable = all(Capability.ENUMERABLE in latent.capabilities for latent in model.latents.values())
        for name, latent in model.latents.items():
            if Capability.REPARAMETERISED not in latent.capabilities:
                raise ValueError(
                    f"guide: latent {name} is {type(latent).__name__}, whose law has no gradient by its draws; use "
                    f"{'guide=exact or ' if enumerable else ''}guide=amortized"
                )
        self.steps, self.num_particles = steps, num_particles
        self._model = [model]
        self.latents = dict(model.latents)
        sizes = {name: latent.num_parameters for name, latent in model.latents.items()}
        self.log_steps = nn.ParameterDict(
            {name: torch.full((size,), step_size).log() for name, size in sizes.items()}
        )

    @abstractmethod
    def start(self, batch: Batch) -> dict[str, Tensor]:
        """Parameters of the law of each latent, ``(B, num_parameters)``."""

    def posterior(self, batch: Batch) -> dict[str, TorchDistribution]:
        """``q(z|x,y)`` of each latent, of batch shape ``(B,)``."""
        parameters = self.start(batch)
        with torch.enable_grad():
            for _ in range(self.steps):
                gradients = self._gradients(batch, parameters)
                parameters = {
                    name: parameters[name] + self.log_steps[name].exp() * gradient
                    for name, gradient in gradients.items()
                }
        if not torch.is_grad_enabled():
            parameters = {name: value.detach() for name, value in parameters.items()}
        return {name: self.latents[name].law(value) for name, value in parameters.items()}

    def _gradients(self, batch: Batch, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the ELBO of each datum, cut to :data:`LARGEST`; without a graph."""
        if batch.response is None:
            raise ValueError("posterior: the batch has no response to read; q(z|x,y) needs one")
        model, free = self._model[0], {n: p.detach().requires_grad_() for n, p in parameters.items()}
        prior = model.router(batch)
        laws = {name: self.latents[name].law(value) for name, value in free.items()}
        z = {name: self._draws(name, value) for name, value in free.items()}
        elbo = model.decoder(batch, z).log_prob(batch.response)
        for name, law in laws.items():
            elbo = elbo + prior[name].log_prob(z[name]) - law.log_prob(z[name])
        found = torch.autograd.grad(elbo.mean(0).sum(), list(free.values()))
        length = torch.cat(found, -1).norm(dim=-1, keepdim=True)
        factor = LARGEST / length.clamp(min=LARGEST)
        return {name: factor * gradient for name, gradient in zip(free, found, strict=True)}

    def _draws(self, name: str, parameters: Tensor) -> Tensor:
        """``(S, B, *event)``, of each datum the same whatever stands beside it."""
        rows = []
        for row in parameters:
            with _same_draws(parameters.device):
                rows.append(self.latents[name].law(row).rsample(torch.Size((self.num_particles,))))
        return torch.stack(rows, 1)

    def guide(self, batch: Batch) -> None:
        """The guide program."""
        with pyro.plate("data", len(batch), dim=-1):
            for name, law in self.posterior(batch).items():
                pyro.sample(name, law)

    def forward(self, batch: Batch) -> None:
        self.guide(batch)


@contextmanager
def _same_draws(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield
