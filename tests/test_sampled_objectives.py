"""Sampled objectives at given draws against their formulas written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.expectations import Sample
from stratagem.inference.log_quantities import LogQuantities, Site
from stratagem.inference.objectives import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    AutoGen,
    Capacity,
    FreeBits,
    FreeBitsPerDimension,
    KLThreshold,
    Objective,
    Renyi,
)
from stratagem.models import Backbone, Batch, Categorical, LatentLM, Normal, PooledRouter
from torch import Tensor, nn

from .inference_fixtures import EXACT


def draws(particles: int, data: int) -> LogQuantities:
    """Of two latents, as different as random numbers are."""
    numbers = torch.Generator().manual_seed(particles)
    law, sites = dist.Normal(0.0, 1.0), {}
    for name in "ab":
        prior, log_q = torch.randn(2, particles, data, generator=numbers, dtype=torch.float64)
        sites[name] = Site(prior, law, law, prior, log_q)
    lik = torch.randn(particles, data, generator=numbers, dtype=torch.float64) - 3
    prior, log_q = (sites["a"].log_prior + sites["b"].log_prior, sites["a"].log_q + sites["b"].log_q)
    return LogQuantities(lik, prior, log_q, False, sites)


@dataclass
class Datum:
    """Plain numbers, one a draw; ``kl`` is log q - log p(z|x), ``kls`` the same by latent."""

    w: list[float]
    lik: list[float]
    kl: list[float]
    kls: list[list[float]]


Formula = Callable[[Datum], float]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def elbo(d: Datum) -> float:
    return mean([math.log(w) for w in d.w])


def iwae(d: Datum) -> float:
    return math.log(mean(d.w))


def halves(d: Datum) -> float:
    return mean([math.log(mean(d.w[0::2])), math.log(mean(d.w[1::2]))])


def renyi(d: Datum, alpha: float) -> float:
    return math.log(mean([w ** (1 - alpha) for w in d.w])) / (1 - alpha)


VALUES: dict[str, tuple[Objective, Formula]] = {
    "elbo": (ELBO(), elbo),
    "beta": (ELBO(0.3), lambda d: mean(d.lik) - 0.3 * mean(d.kl)),
    "iwae": (IWAE(), iwae),
    "miwae": (MIWAE(2), halves),
    "miwae, a group a draw": (MIWAE(4), elbo),
    "miwae, one group": (MIWAE(1), iwae),
    "piwae": (PIWAE(2), iwae),
    "ciwae": (CIWAE(0.3), lambda d: 0.3 * elbo(d) + 0.7 * iwae(d)),
    "renyi": (Renyi(0.3), lambda d: renyi(d, 0.3)),
    "renyi beyond 1": (Renyi(2.5), lambda d: renyi(d, 2.5)),
    "chi-square": (Renyi(-1.0), iwae),
    "autogen": (AutoGen(2.0), lambda d: 3 * mean(d.lik) - mean(d.kl)),
    "capacity": (Capacity(2.0, 0.7), lambda d: mean(d.lik) - 2 * abs(mean(d.kl) - 0.7)),
    "free bits": (FreeBits(0.2), lambda d: mean(d.lik) - sum(max(0.2, mean(k)) for k in d.kls)),
    "threshold": (KLThreshold(0.4), lambda d: mean(d.lik) - max(0.4, mean(d.kl))),
}
GUIDES: dict[str, tuple[Objective, Formula]] = {
    "piwae": (PIWAE(2), halves),
    "chi-square": (Renyi(-1.0), lambda d: -renyi(d, -1.0)),
    "renyi -0.5": (Renyi(-0.5), lambda d: -renyi(d, -0.5)),
    "miwae": VALUES["miwae"],
    "renyi": VALUES["renyi"],
}


def check(bound: Callable[[LogQuantities], Tensor], formula: Formula, log: LogQuantities) -> None:
    """The law: datum by datum, the formula in plain numbers."""
    found = bound(log)
    assert found.shape == log.log_lik.shape[1:]
    for b in range(len(found)):
        columns = (log.log_w.exp(), log.log_lik, log.log_q - log.log_prior)
        kls = [(site.log_q - site.log_prior)[:, b].tolist() for site in log.sites.values()]
        datum = Datum(*(values[:, b].tolist() for values in columns), kls)
        assert float(found[b]) == pytest.approx(formula(datum), rel=0, abs=1e-10)


@pytest.mark.parametrize("data", [3, 12])
@pytest.mark.parametrize("name", VALUES)
def test_the_value_at_given_draws(name: str, data: int) -> None:
    objective, formula = VALUES[name]
    check(objective.bound, formula, draws(4, data))


@pytest.mark.parametrize("name", GUIDES)
def test_what_the_guide_raises_at_given_draws(name: str) -> None:
    objective, formula = GUIDES[name]
    check(objective.guide_bound, formula, draws(4, 3))
    assert objective.shared == (name in ("miwae", "renyi"))


class MeanOfWeights(IWAE):
    def bound(self, log: LogQuantities) -> Tensor:
        return log.log_w.logsumexp(0)


class GroupsOfTheGroups(MIWAE):
    def bound(self, log: LogQuantities) -> Tensor:
        return super().bound(log) + math.log(self.groups)


class Swapped(CIWAE):
    def bound(self, log: LogQuantities) -> Tensor:
        return (1 - self.beta) * log.log_w.mean(0) + self.beta * IWAE().bound(log)


class Upside(Renyi):
    def value(self, log: LogQuantities) -> Tensor:
        return -super().value(log)


class AsOne(FreeBits):
    def bound(self, log: LogQuantities) -> Tensor:
        return KLThreshold(self.bits).bound(log)


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("iwae", MeanOfWeights().bound),
        ("miwae", GroupsOfTheGroups(2).bound),
        ("ciwae", Swapped(0.3).bound),
        ("chi-square", Upside(-1.0).guide_bound),
        ("piwae", PIWAE(2).bound),
        ("free bits", AsOne(0.2).bound),
    ],
)
def test_a_wrong_value_is_found_out(name: str, bound: Callable[[LogQuantities], Tensor]) -> None:
    formula = (GUIDES if name in ("chi-square", "piwae") else VALUES)[name][1]
    with pytest.raises(AssertionError):
        check(bound, formula, draws(4, 3))


@pytest.fixture
def continuous(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> tuple[LatentLM, AmortizedGuide, Batch]:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model = make_model(backbone, latents={"a": Normal(3), "b": Normal(2)}, router=PooledRouter)
    guide = AmortizedGuide(model).double()
    randomise(nn.ModuleDict({"model": model, "guide": guide}))
    return model, guide, make_batch(backbone)


def check_free_bits(continuous: tuple[LatentLM, AmortizedGuide, Batch], kind: type[FreeBits]) -> None:
    """The law: a coordinate counts with what its mean over the minibatch has beyond the free bits."""
    model, guide, batch = continuous
    prior, posterior = model.router(batch), guide.posterior(batch)
    by_coordinate = []
    for name in model.latents:
        (m, s), (n, r) = ((law.base_dist.loc, law.base_dist.scale) for law in (posterior[name], prior[name]))
        by_coordinate.append((r / s).log() + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5)
    kl = torch.cat(by_coordinate, -1).mean(0)
    bits = float(kl.detach().median()) + 1e-3
    assert (kl > bits).sum() >= 2
    log = Sample(3)(model, guide, batch)
    bound = kind(bits).bound(log)
    expected = log.log_lik.mean(0) - kl.where(kl > bits, torch.full_like(kl, bits)).sum()
    torch.testing.assert_close(bound, expected, **EXACT)
    parameters = [p for p in nn.ModuleList([model, guide]).parameters() if p.requires_grad]
    found, truth = (
        torch.autograd.grad(v.mean(), parameters, retain_graph=True, allow_unused=True)
        for v in (bound, expected)
    )
    for a, b in zip(found, truth, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_free_bits_per_coordinate_are_those_of_the_minibatch(
    continuous: tuple[LatentLM, AmortizedGuide, Batch],
) -> None:
    check_free_bits(continuous, FreeBitsPerDimension)
    with pytest.raises(AssertionError):
        check_free_bits(continuous, FreeBits)


def test_free_bits_per_coordinate_want_gaussians(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
) -> None:
    backbone = make_backbone("gpt2")
    model, batch = make_model(backbone, latents={"z": Categorical(3)}), make_batch(backbone)
    log = Sample(2)(model, AmortizedGuide(model), batch)
    with pytest.raises(ValueError, match=r"latent z is Categorical .* Use FreeBits"):
        FreeBitsPerDimension().bound(log)
