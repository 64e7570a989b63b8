"""Latent models small enough to sum over, and one with a closed form, for the tests of inference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from stratagem.guides import AmortizedGuide
from stratagem.inference.inference import Inference
from stratagem.models import Batch, Categorical, LatentLM
from torch import Tensor, nn

EXACT = {"rtol": 0.0, "atol": 1e-10}
LATENTS = {"one": {"z": Categorical(3)}, "two": {"a": Categorical(3), "b": Categorical(2)}}


@dataclass
class Tables:
    """``log p(z|x)``, ``log p(y|x,z)`` and ``log q(z|x,y)``, ``(P, B)``, the first latent changing fastest."""

    log_prior: Tensor
    log_lik: Tensor
    log_q: Tensor

    @property
    def log_p(self) -> Tensor:
        return (self.log_prior + self.log_lik).logsumexp(0)

    @property
    def log_posterior(self) -> Tensor:
        return self.log_prior + self.log_lik - self.log_p


@dataclass
class Toy:
    """A latent model and a guide far from their start, and data for them.

    In float64 throughout: of the architectures, GPT-2 is one whose norms do not compute in float32.
    """

    model: LatentLM
    guide: AmortizedGuide
    batch: Batch
    rows: list[Batch]

    def tables(self) -> Tables:
        """One datum and one joint value at a time, each without padding and without broadcasting."""
        sizes = {name: latent.num_features for name, latent in self.model.latents.items()}
        values = [{}]
        for name, size in reversed(sizes.items()):
            values = [{name: k, **z} for z in values for k in range(size)]
        columns = [torch.stack([self._cell(row, z) for z in values]) for row in self.rows]  # (P, 3) each
        prior, lik, log_q = torch.stack(columns, 1).unbind(-1)
        return Tables(prior, lik, log_q)

    def _cell(self, row: Batch, z: Mapping[str, int]) -> Tensor:
        at = {name: torch.tensor([k]) for name, k in z.items()}
        prior = sum(law.log_prob(at[name]) for name, law in self.model.router(row).items())
        log_q = sum(law.log_prob(at[name]) for name, law in self.guide.posterior(row).items())
        return torch.cat([prior, self.model.decoder(row, at).log_prob(row.response), log_q])

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        both = nn.ModuleDict({"model": self.model, "guide": self.guide})
        return {name: p for name, p in both.named_parameters() if p.requires_grad}

    def gradients(self, scalar: Tensor) -> dict[str, Tensor]:
        """By parameter, zero where there is none."""
        names, values = zip(*self.parameters.items(), strict=True)
        found = torch.autograd.grad(scalar, values, allow_unused=True)
        return {
            n: torch.zeros_like(v) if g is None else g for n, v, g in zip(names, values, found, strict=True)
        }


class Forced(Messenger):
    """Gives latent sites the values of ``z``, ``(S,)`` each, in place of draws."""

    def __init__(self, z: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.z = z

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.z and not msg["is_observed"] and not msg["done"]:
            value = self.z[msg["name"]][:, None]  # (S, 1)
            msg["value"] = value.expand(msg["fn"].batch_shape[-2:])
            msg["done"] = True


def tuples_of(sizes: Mapping[str, int], particles: int) -> Iterator[dict[str, Tensor]]:
    """All ways of drawing ``particles`` joint values of categorical sites."""
    joint = list(itertools.product(*(range(size) for size in sizes.values())))
    for drawn in itertools.product(joint, repeat=particles):
        columns = torch.tensor(drawn)  # (S, sites)
        yield {name: columns[:, i] for i, name in enumerate(sizes)}


def expected_gradient(toy: Toy, inference: Inference, particles: int) -> tuple[Tensor, dict[str, Tensor]]:
    """``E[bound]`` of the first datum and ``E[gradient of the surrogate]``, summed over all tuples of draws."""
    sizes = {name: latent.num_features for name, latent in toy.model.latents.items()}
    batch = toy.rows[0]
    laws = toy.guide.posterior(batch)
    value, gradients = torch.zeros((), dtype=torch.float64), None
    for z in tuples_of(sizes, particles):
        log_p = sum(laws[name].log_prob(drawn[:, None]).sum() for name, drawn in z.items())
        p = log_p.exp().detach()
        with Forced(z):
            loss = inference(toy.model, toy.guide, batch)
        value = value + p * loss.bound.sum()
        found = toy.gradients(loss.surrogate)
        gradients = {n: p * g + (0.0 if gradients is None else gradients[n]) for n, g in found.items()}
    assert gradients is not None
    return value, gradients


def close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], names: Sequence[str] = ()) -> None:
    """Gradients that agree to 1e-9, of all parameters or of those whose names begin with one of ``names``."""
    for name, gradient in expected.items():
        if not names or name.startswith(tuple(names)):
            torch.testing.assert_close(
                found[name], gradient, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
            )


class LinearGaussian(nn.Module):
    """``z ~ N(0, 1)``, ``y ~ N(w z + c, s^2)``, y read off the batch's features."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.8, dtype=torch.float64))
        self.c = nn.Parameter(torch.tensor(-0.3, dtype=torch.float64))
        self.log_s = nn.Parameter(torch.tensor(-0.4, dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(y), 1.0))
            pyro.sample("y", dist.Normal(self.w * z + self.c, self.log_s.exp()), obs=y)


class GaussianGuide(nn.Module):
    """``q(z|y) = N(a y + b, exp(r)^2)``."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.2, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.r = nn.Parameter(torch.tensor(-0.2, dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Normal(self.a * y + self.b, self.r.exp()))


def gaussian_elbo(model: LinearGaussian, guide: GaussianGuide, y: Tensor) -> Tensor:
    """The ELBO in closed form, ``(B,)``."""
    mean, variance = guide.a * y + guide.b, (2 * guide.r).exp()
    spread = (2 * model.log_s).exp()
    residual = (y - model.w * mean - model.c) ** 2 + model.w**2 * variance
    log_lik = -0.5 * torch.log(2 * torch.pi * spread) - residual / (2 * spread)
    kl = 0.5 * (variance + mean**2 - 1) - guide.r
    return log_lik - kl


def gaussian_batch() -> Batch:
    y = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
    ids = torch.zeros(3, 1, dtype=torch.long)
    return Batch(ids, torch.ones_like(ids, dtype=torch.bool), features={"y": y})
