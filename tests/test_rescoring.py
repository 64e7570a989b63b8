"""The guide run once more on given values: its log-density, and what gradients flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from stratagem.guides import AmortizedGuide, FlowGuide
from stratagem.guides.flow import MADE_BY
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients.rescoring import rescore
from stratagem.inference.log_quantities import LogQuantities, Run
from stratagem.models import Backbone, Batch, LatentLM, Lora, Normal, PooledRouter
from torch import Tensor, nn
from torch.distributions import constraints

from .gaussian_fixtures import Chain, OneSite, batch_of, normal
from .inference_fixtures import EXACT, LinearGaussian, close

Y = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)


def draws(problem: Chain | OneSite) -> LogQuantities:
    return problem.run(Y, {name: torch.randn(4, len(Y), dtype=torch.float64) for name in problem.sites})


def values(log: LogQuantities) -> dict[str, Tensor]:
    return {name: torch.randn_like(site.z).requires_grad_() for name, site in log.sites.items()}


def by_hand(guide: nn.Module, z: dict[str, Tensor]) -> Tensor:
    first = normal(z["z1"], guide.a1 * Y + guide.b1, guide.r1.exp())
    return first + normal(z["z2"], guide.a2 * Y + guide.d * z["z1"] + guide.b2, guide.r2.exp())


@pytest.mark.parametrize("fixed", [True, False])
def test_it_is_the_log_density_of_any_values(fixed: bool) -> None:
    problem = Chain()
    log = draws(problem)
    own = {name: site.z for name, site in log.sites.items()}
    torch.testing.assert_close(rescore(log, own, fixed), log.log_q, **EXACT)
    z = values(log)
    torch.testing.assert_close(rescore(log, z, fixed), by_hand(problem.guide, z), **EXACT)


def test_fixed_the_gradient_flows_into_the_values_alone_and_from_one_site_into_another() -> None:
    problem = Chain()
    log = draws(problem)
    z = values(log)
    found = torch.autograd.grad(rescore(log, z, fixed=True).sum(), list(z.values()), retain_graph=True)
    expected = torch.autograd.grad(by_hand(problem.guide, z).sum(), list(z.values()))
    close(dict(zip(z, found, strict=True)), dict(zip(z, expected, strict=True)))
    held = rescore(log, {name: value.detach() for name, value in z.items()}, fixed=True)
    assert not held.requires_grad
    assert rescore(log, z, fixed=True).requires_grad
    assert all(p.requires_grad for p in problem.guide.parameters())


def test_otherwise_it_flows_into_the_guide() -> None:
    problem = Chain()
    log = draws(problem)
    z = {name: value.detach() for name, value in values(log).items()}
    expected = problem.gradients(by_hand(problem.guide, z).sum())
    close(problem.gradients(rescore(log, z, fixed=False).sum()), expected)
    assert all(expected[f"guide.{name}"].abs() > 1e-3 for name, _ in problem.guide.named_parameters())


class Positive(PyroModule):
    """A guide with a parameter of Pyro's and one that is no module's."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.scale = PyroParam(torch.tensor(0.7, dtype=torch.float64), constraints.positive)

    def forward(self, batch: Batch) -> None:
        slope = pyro.param("slope", torch.tensor(0.2, dtype=torch.float64))
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Normal(self.loc + slope * batch.features["y"], self.scale))


def test_parameters_of_pyro_are_held_too() -> None:
    guide = Positive()
    log = Sample(2)(LinearGaussian(), guide, batch_of(Y))
    z = {"z": log.sites["z"].z.detach().requires_grad_()}
    held = rescore(log, z, fixed=True)
    torch.testing.assert_close(held, log.log_q, **EXACT)
    scale = dict(guide.named_parameters())["scale_unconstrained"]
    slope = pyro.get_param_store()._params["slope"]
    for parameter in (guide.loc, scale, slope):
        (free,) = torch.autograd.grad(rescore(log, z, fixed=False).sum(), parameter)
        (gradient,) = torch.autograd.grad(held.sum(), parameter, allow_unused=True, retain_graph=True)
        assert free.abs() > 1e-3
        assert gradient is None
    assert torch.autograd.grad(held.sum(), z["z"])[0].abs().min() > 0


def test_a_guide_that_is_a_function_cannot_be_held() -> None:
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def plain(batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Normal(batch.features["y"], scale))

    log = Sample(2)(LinearGaussian(), plain, batch_of(Y))
    z = {"z": log.sites["z"].z}
    torch.testing.assert_close(rescore(log, z, fixed=False), log.log_q, **EXACT)
    with pytest.raises(ValueError, match=r"plain is no nn\.Module, .* make it one"):
        rescore(log, z, fixed=True)


class Tied(nn.Module):
    """One parameter in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.slope = (nn.Linear(1, 1, bias=False).double() for _ in range(2))
        self.slope.weight = self.loc.weight

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            one = torch.ones(len(batch), 1, dtype=torch.float64)
            pyro.sample("z", dist.Normal(self.loc(one)[:, 0] + self.slope(y[:, None])[:, 0], 1.0))


def test_a_parameter_of_two_modules_is_held_in_both() -> None:
    guide = Tied()
    log = Sample(2)(LinearGaussian(), guide, batch_of(Y))
    held = rescore(log, {"z": log.sites["z"].z.detach()}, fixed=True)
    torch.testing.assert_close(held, log.log_q.detach(), **EXACT)
    assert not held.requires_grad
    assert guide.slope.weight is guide.loc.weight


def test_values_of_other_sites_are_refused() -> None:
    log = draws(Chain())
    with pytest.raises(ValueError, match=r"values of \['z1'\], expected .* \['z1', 'z2'\]"):
        rescore(log, {"z1": log.sites["z1"].z}, fixed=False)


@pytest.fixture
def drawn(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> Callable[..., tuple[AmortizedGuide, Backbone, LogQuantities]]:
    def make(**roles: Any) -> tuple[AmortizedGuide, Backbone, LogQuantities]:
        backbone = make_backbone("gpt2", dtype=torch.float64, roles=roles)
        model = make_model(backbone, latents={"a": Normal(2), "b": Normal(1)}, router=PooledRouter)
        guide = AmortizedGuide(model).double()
        randomise(nn.ModuleDict({"model": model, "guide": guide}))
        batch = make_batch(backbone)
        kept = {reader.name: reader.features(batch) for reader in guide.readers.values() if reader.name}
        return guide, backbone, Sample(3)(model, guide, replace(batch, features=kept))

    return make


def test_adapters_that_two_readers_share_are_held_and_put_back(
    drawn: Callable[..., tuple[AmortizedGuide, Backbone, LogQuantities]],
) -> None:
    guide, _, log = drawn(posterior=Lora(rank=2), decoder=Lora(rank=2))
    before = {name: (id(p), p.requires_grad) for name, p in guide.named_parameters()}
    z = {name: site.z.detach().requires_grad_() for name, site in log.sites.items()}
    held, free = rescore(log, z, fixed=True), rescore(log, z, fixed=False)
    torch.testing.assert_close(held, log.log_q, **EXACT)
    assert {name: (id(p), p.requires_grad) for name, p in guide.named_parameters()} == before
    moved = {n: p for n, p in guide.named_parameters() if p.requires_grad and ".decoder." not in n}
    gradients = torch.autograd.grad(held.sum(), moved.values(), allow_unused=True, retain_graph=True)
    assert all(g is None for g in gradients)
    gradients = torch.autograd.grad(free.sum(), moved.values(), allow_unused=True)
    assert sum(g is not None and bool(g.abs().max() > 0) for g in gradients) > len(moved) / 2


def test_a_frozen_reader_whose_features_are_kept_runs_its_head_alone(
    drawn: Callable[..., tuple[AmortizedGuide, Backbone, LogQuantities]],
) -> None:
    _, backbone, log = drawn()
    z = {name: site.z for name, site in log.sites.items()}
    calls: list[int] = []
    with backbone.lm.base_model.register_forward_hook(lambda *_: calls.append(1)):
        rescore(log, z, fixed=True)
    assert not calls


@pytest.mark.parametrize("flow", MADE_BY)
def test_the_weights_of_a_flow_are_held_as_well(
    flow: str,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
) -> None:
    """Of z that the flow has drawn itself, whose inverse it keeps with the gradients of the draw."""
    model = make_model(make_backbone("llama"), "prefix", {"z": Normal(3)})
    guide = FlowGuide(model, flow)
    log = Sample(4)(model, guide, make_batch(model.backbone), Run(alone=True))
    z = {name: site.z for name, site in log.sites.items()}
    torch.testing.assert_close(rescore(log, z, fixed=True), log.log_q, rtol=1e-4, atol=1e-4)
    assert not rescore(log, {name: value.detach() for name, value in z.items()}, fixed=True).requires_grad
    at = {name: value.detach().requires_grad_() for name, value in z.items()}
    through = torch.autograd.grad(rescore(log, z, fixed=True).sum(), list(z.values()))
    alone = torch.autograd.grad(rescore(log, at, fixed=True).sum(), list(at.values()))
    torch.testing.assert_close(through, alone, rtol=1e-3, atol=1e-4)
    live = rescore(log, at, fixed=False)
    found = torch.autograd.grad(live.sum(), list(guide.flows.parameters()), allow_unused=True)
    assert any(g is not None and g.abs().max() > 0 for g in found)
