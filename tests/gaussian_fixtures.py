"""Linear-Gaussian models whose noise is summed over, for the tests of gradients through samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from numpy.polynomial.hermite_e import hermegauss
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import Gradient
from stratagem.inference.log_quantities import LogQuantities, Run
from stratagem.inference.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE, Objective, Renyi
from stratagem.models import Batch
from torch import Tensor, nn

from .inference_fixtures import GaussianGuide, LinearGaussian, close

Bound = Callable[[Tensor], Tensor]
"""``(B,)`` of ``log_w`` ``(S, B)``."""


class Noise(Messenger):
    """Draws Gaussian sites as ``mean + deviation * noise`` with the noise given, ``(S, B)`` by site."""

    def __init__(self, noise: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.noise and not msg["is_observed"] and not msg["done"]:
            msg["value"] = msg["fn"].mean + msg["fn"].stddev * self.noise[msg["name"]]
            msg["done"] = True


def batch_of(y: Tensor) -> Batch:
    ids = torch.zeros(len(y), 1, dtype=torch.long)
    return Batch(ids, torch.ones_like(ids, dtype=torch.bool), features={"y": y})


def normal(value: Tensor, mean: Tensor | float, scale: Tensor | float) -> Tensor:
    scale = torch.as_tensor(scale, dtype=torch.float64)
    return -0.5 * ((value - mean) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


class Problem(ABC):
    """A model and a guide, and their weights written out as functions of the noise."""

    sites: tuple[str, ...]
    model: nn.Module
    guide: nn.Module

    @abstractmethod
    def log_w(self, y: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """``(S, B)``, by hand."""

    @abstractmethod
    def make_exact(self) -> None:
        """Set the guide to the posterior."""

    def gradients(self, scalar: Tensor) -> dict[str, Tensor]:
        both = nn.ModuleDict({"model": self.model, "guide": self.guide})
        names, values = zip(*both.named_parameters(), strict=True)
        found = torch.autograd.grad(scalar, values, allow_unused=True)
        return {
            n: torch.zeros_like(v) if g is None else g for n, v, g in zip(names, values, found, strict=True)
        }

    def run(
        self, y: Tensor, noise: Mapping[str, Tensor], alone: bool = True, one_by_one: bool = False
    ) -> LogQuantities:
        particles = len(noise[self.sites[0]])
        with Noise(noise):
            return Sample(particles, one_by_one)(self.model, self.guide, batch_of(y), Run(alone=alone))


class OneSite(Problem):
    """The linear-Gaussian model and its guide."""

    sites = ("z",)

    def __init__(self) -> None:
        self.model, self.guide = LinearGaussian(), GaussianGuide()
        self.set_guide(a=0.5, b=0.4, r=-0.5)

    def set_guide(self, **values: float | Tensor) -> None:
        with torch.no_grad():
            for name, value in values.items():
                getattr(self.guide, name).copy_(torch.as_tensor(value))

    def log_w(self, y: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        m, g = self.model, self.guide
        mean, scale = g.a * y + g.b, g.r.exp()
        z = mean + scale * noise["z"]
        return normal(z, 0.0, 1.0) + normal(y, m.w * z + m.c, m.log_s.exp()) - normal(z, mean, scale)

    def make_exact(self) -> None:
        w, c, s = self.model.w.detach(), self.model.c.detach(), self.model.log_s.detach().exp()
        whole = w**2 + s**2
        self.set_guide(a=w / whole, b=-w * c / whole, r=(s / whole.sqrt()).log())


class ChainModel(nn.Module):
    """``z1 ~ N(0, 1)``, ``z2 ~ N(m z1, 1)``, ``y ~ N(u z1 + w z2 + c, s^2)``."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in {"m": 0.5, "u": 0.4, "w": 0.7, "c": -0.3, "log_s": -0.1}.items():
            setattr(self, name, nn.Parameter(torch.tensor(value, dtype=torch.float64)))

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros_like(y), 1.0))
            z2 = pyro.sample("z2", dist.Normal(self.m * z1, 1.0))
            pyro.sample("y", dist.Normal(self.u * z1 + self.w * z2 + self.c, self.log_s.exp()), obs=y)


class ChainGuide(nn.Module):
    """``q(z1|y) = N(a1 y + b1, exp(r1)^2)``, ``q(z2|z1,y) = N(a2 y + d z1 + b2, exp(r2)^2)``."""

    def __init__(self) -> None:
        super().__init__()
        start = {"a1": 0.4, "b1": 0.3, "r1": -0.25, "a2": 0.3, "d": 0.4, "b2": 0.2, "r2": -0.3}
        for name, value in start.items():
            setattr(self, name, nn.Parameter(torch.tensor(value, dtype=torch.float64)))

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.a1 * y + self.b1, self.r1.exp()))
            pyro.sample("z2", dist.Normal(self.a2 * y + self.d * z1 + self.b2, self.r2.exp()))


class Chain(Problem):
    """Two sites, the second given the first in model and guide."""

    sites = ("z1", "z2")

    def __init__(self) -> None:
        self.model, self.guide = ChainModel(), ChainGuide()

    def log_w(self, y: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        m, g = self.model, self.guide
        mean1, scale1 = g.a1 * y + g.b1, g.r1.exp()
        z1 = mean1 + scale1 * noise["z1"]
        mean2, scale2 = g.a2 * y + g.d * z1 + g.b2, g.r2.exp()
        z2 = mean2 + scale2 * noise["z2"]
        log_joint = normal(z1, 0.0, 1.0) + normal(z2, m.m * z1, 1.0)
        log_joint = log_joint + normal(y, m.u * z1 + m.w * z2 + m.c, m.log_s.exp())
        return log_joint - normal(z1, mean1, scale1) - normal(z2, mean2, scale2)

    def make_exact(self) -> None:
        m, u, w, c, log_s = (p.detach() for p in self.model.parameters())
        s2 = (2 * log_s).exp()
        v2 = 1 / (1 + w**2 / s2)
        k, t2 = u + w * m, w**2 + s2
        v1 = 1 / (1 + k**2 / t2)
        exact = {"a1": v1 * k / t2, "b1": -v1 * k * c / t2, "r1": 0.5 * v1.log()}
        exact |= {"a2": v2 * w / s2, "d": v2 * (m - u * w / s2), "b2": -v2 * w * c / s2, "r2": 0.5 * v2.log()}
        with torch.no_grad():
            for name, value in exact.items():
                getattr(self.guide, name).copy_(value)


@dataclass
class Quadrature:
    """Data and noise, each datum with every node, and the weights that make a sum the mean over both."""

    y: Tensor
    noise: dict[str, Tensor]
    weights: Tensor

    @classmethod
    def of(cls, sites: Iterable[str], particles: int, nodes: int, data: Iterable[float]) -> Quadrature:
        names = list(sites)
        places, weights = (torch.tensor(v) for v in hermegauss(nodes))
        size = particles * len(names)
        grid = torch.cartesian_prod(*[places] * size).reshape(-1, size).T  # (S * sites, nodes^(S * sites))
        weight = torch.cartesian_prod(*[weights / weights.sum()] * size).reshape(-1, size).prod(1)
        y = torch.tensor(list(data), dtype=torch.float64)
        noise = {
            name: rows.repeat(1, len(y)) for name, rows in zip(names, grid.chunk(len(names)), strict=True)
        }
        return cls(y.repeat_interleave(len(weight)), noise, weight.repeat(len(y)) / len(y))


def log_mean(log_w: Tensor) -> Tensor:
    return torch.log(log_w.exp().mean(0))


def chi_square(log_w: Tensor) -> Tensor:
    return -0.5 * torch.log((2 * log_w).exp().mean(0))


def root(log_w: Tensor) -> Tensor:
    return 2 * torch.log((0.5 * log_w).exp().mean(0))


def mean(log_w: Tensor) -> Tensor:
    return log_w.mean(0)


def in_pairs(log_w: Tensor) -> Tensor:
    return 0.5 * (log_mean(log_w[[0, 2]]) + log_mean(log_w[[1, 3]]))


BOUNDS: dict[str, tuple[Objective, Bound, Bound]] = {
    "elbo": (ELBO(), mean, mean),
    "iwae": (IWAE(), log_mean, log_mean),
    "ciwae": (CIWAE(0.3), *(lambda w: 0.3 * mean(w) + 0.7 * log_mean(w),) * 2),
    "miwae S=4": (MIWAE(2), in_pairs, in_pairs),
    "piwae": (PIWAE(2), log_mean, mean),
    "piwae S=4": (PIWAE(2), log_mean, in_pairs),
    "renyi": (Renyi(0.5), root, root),
    "chi-square": (Renyi(-1.0), log_mean, chi_square),
}
"""Objective, and what model and guide raise, written out, for S = 2 where not said."""


def truth(problem: Problem, of_model: Bound, of_guide: Bound, q: Quadrature) -> dict[str, Tensor]:
    """Of the mean bounds, by autograd of the quadrature itself."""
    of = {
        part: problem.gradients((q.weights * bound(problem.log_w(q.y, q.noise))).sum())
        for part, bound in (("model", of_model), ("guide", of_guide))
    }
    return {name: of[name.partition(".")[0]][name] for name in of["model"]}


def found(
    problem: Problem, objective: Objective, gradient: Gradient, q: Quadrature, alone: bool = True
) -> dict[str, Tensor]:
    _, raised = gradient.surrogate(objective, problem.run(q.y, q.noise, alone))
    return problem.gradients((q.weights * raised).sum())


def holds(problem: Problem, name: str, gradient: Gradient, q: Quadrature, alone: bool = True) -> None:
    """The law: the expected gradient is that of the expected bound."""
    objective, of_model, of_guide = BOUNDS[name]
    close(found(problem, objective, gradient, q, alone), truth(problem, of_model, of_guide, q))
