"""What each objective says of itself and what none may depend on, of every one that is found."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import stratagem.configs
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from stratagem.guides import AmortizedGuide
from stratagem.inference import objectives
from stratagem.inference.expectations import Enumerate, Expectation, Sample
from stratagem.inference.log_quantities import LogQuantities, Run
from stratagem.inference.objectives import ELBO, FreeBitsPerDimension, Objective
from stratagem.models import Backbone, Batch, Capability, Categorical, LatentLM, Normal, PooledRouter
from torch import Tensor, nn

from .inference_fixtures import EXACT, Toy

FAMILIES = (
    {"a": Categorical(3), "b": Categorical(2)},
    {"a": Normal(2), "b": Normal(1)},
)
PARTICLES = 4
MIDWAY = Run(share=0.25)
"""Where schedules are between their ends."""


def every_objective() -> dict[str, Objective]:
    """Those of the YAMLs, each setting once, and the classes that none has."""
    found: dict[str, Objective] = {}
    nodes = []
    for path in sorted((Path(next(iter(stratagem.configs.__path__))) / "inference").glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path), resolve=True).get("objective")
        if node is not None and node not in nodes:
            found[path.stem] = instantiate(node)
            nodes.append(node)
    for name in objectives.__all__:
        kind = getattr(objectives, name)
        if not inspect.isabstract(kind) and kind not in map(type, found.values()):
            found[name] = kind()
    return found


EVERY = every_objective()


class Given(Messenger):
    """Gives latent sites the values of ``z``, ``(S, *event)`` each and the same for every datum."""

    def __init__(self, z: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.z = z

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.z and not msg["done"]:
            value = self.z[msg["name"]][:, None]
            msg["value"] = value.expand(*msg["fn"].batch_shape[-2:], *value.shape[2:]).clone()
            msg["done"] = True


class World:
    """A latent model, a guide and eight data, together and one by one."""

    def __init__(
        self,
        capability: Capability | None,
        make_backbone: Callable[..., Backbone],
        make_batch: Callable[..., Batch],
        make_model: Callable[..., LatentLM],
        randomise: Callable[..., None],
        unpad: Callable[[Batch], list[Batch]],
    ) -> None:
        latents = next(
            f for f in FAMILIES if capability is None or all(capability in z.capabilities for z in f.values())
        )
        backbone = make_backbone("gpt2", dtype=torch.float64)
        self.model = make_model(backbone, latents=latents, router=PooledRouter)
        self.guide = AmortizedGuide(self.model).double()
        randomise(nn.ModuleDict({"model": self.model, "guide": self.guide}))
        self.batch = make_batch(
            backbone, (1, 2, 3, 4, 5, 6, 7, 8), (8, 1, 6, 3, 5, 4, 7, 2), cut=(2,), seed=3
        )
        self.rows = unpad(self.batch)
        self.enumerable = isinstance(latents["a"], Categorical)
        self.draws = {
            "a": torch.tensor([0, 2, 1, 2]) if self.enumerable else torch.randn(PARTICLES, 2).double(),
            "b": torch.tensor([1, 1, 0, 1]) if self.enumerable else torch.randn(PARTICLES, 1).double(),
        }
        self.parameters = [p for p in nn.ModuleList([self.model, self.guide]).parameters() if p.requires_grad]

    def expectations(self, objective: Objective) -> list[Expectation]:
        """Those that the objective is right for here."""
        each: list[Expectation] = [Enumerate(), Sample(PARTICLES)]
        kept = [e for e in each if isinstance(e, objective.expectations)]
        return [e for e in kept if self.enumerable or isinstance(e, Sample)]

    def run(self, expectation: Expectation, batch: Batch) -> LogQuantities:
        if isinstance(expectation, Enumerate):
            return expectation(self.model, self.guide, batch, MIDWAY)
        with Given(self.draws):
            return expectation(self.model, self.guide, batch, MIDWAY)

    def gradients(self, scalar: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(scalar, self.parameters, allow_unused=True, retain_graph=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]


@pytest.fixture
def world(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
    unpad: Callable[[Batch], list[Batch]],
) -> Callable[[Objective], World]:
    def make(objective: Objective) -> World:
        torch.manual_seed(0)
        return World(objective.needs, make_backbone, make_batch, make_model, randomise, unpad)

    return make


def bounds(objective: Objective) -> list[Callable[[LogQuantities], Tensor]]:
    return [objective.bound] if objective.shared else [objective.bound, objective.guide_bound]


def alone_as_together(objective: Objective, world: World) -> None:
    """The law: a minibatch of eight is the mean of eight of one, in value and in gradient."""
    for expectation in world.expectations(objective):
        whole = world.run(expectation, world.batch)
        single = [world.run(expectation, row) for row in world.rows]
        for bound in bounds(objective):
            together, alone = bound(whole), torch.cat([bound(log) for log in single])
            assert together.shape == (len(world.batch),)
            torch.testing.assert_close(together, alone, **EXACT)
            found, truth = world.gradients(together.mean()), world.gradients(alone.mean())
            assert any(g.abs().max() > 1e-6 for g in truth)
            largest = max(float(g.abs().max()) for g in truth)
            for a, b in zip(found, truth, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-9 * max(1.0, largest))


@pytest.mark.parametrize("name", [n for n, o in EVERY.items() if o.pointwise])
def test_a_datum_does_not_feel_its_neighbours(name: str, world: Callable[[Objective], World]) -> None:
    alone_as_together(EVERY[name], world(EVERY[name]))


@pytest.mark.parametrize("name", [n for n, o in EVERY.items() if not o.pointwise])
def test_an_objective_over_the_minibatch_says_so(name: str) -> None:
    assert "minibatch" in (type(EVERY[name]).__doc__ or "")


class Centred(ELBO):
    def bound(self, log: LogQuantities) -> Tensor:
        weights = log.log_w
        return super().bound(log) + 0.1 * (weights - weights.mean(-1, keepdim=True)).mean(0)


@pytest.mark.parametrize("wrong", [Centred(), FreeBitsPerDimension()], ids=["centred", "minibatch"])
def test_feeling_a_neighbour_is_found_out(wrong: Objective, world: Callable[[Objective], World]) -> None:
    with pytest.raises(AssertionError):
        alone_as_together(wrong, world(wrong))


def same_in_another_order(objective: Objective, world: World) -> None:
    """The law: the data in another order have the same bounds in that order."""
    order = torch.tensor([5, 0, 7, 2, 1, 6, 4, 3])
    b = world.batch
    assert b.response is not None
    assert b.response_mask is not None
    mixed = Batch(b.prompt[order], b.prompt_mask[order], b.response[order], b.response_mask[order])
    for expectation in world.expectations(objective):
        for bound in bounds(objective):
            one, other = (bound(world.run(expectation, batch)) for batch in (b, mixed))
            torch.testing.assert_close(other, one[order], **EXACT)


@pytest.mark.parametrize("name", EVERY)
def test_the_order_of_the_data_changes_nothing(name: str, world: Callable[[Objective], World]) -> None:
    with torch.no_grad():
        same_in_another_order(EVERY[name], world(EVERY[name]))


class FirstCounts(ELBO):
    def bound(self, log: LogQuantities) -> Tensor:
        return super().bound(log) + torch.arange(log.log_q.shape[-1])


def test_depending_on_the_order_is_found_out(world: Callable[[Objective], World]) -> None:
    with pytest.raises(AssertionError), torch.no_grad():
        same_in_another_order(FirstCounts(), world(FirstCounts()))


def relabelled(log: LogQuantities) -> LogQuantities:
    order = torch.randperm(len(log.log_q), generator=torch.Generator().manual_seed(1))
    sites = {
        name: replace(site, log_prior=site.log_prior[order], log_q=site.log_q[order])
        for name, site in log.sites.items()
    }
    parts = (log.log_lik[order], log.log_prior[order], log.log_q[order])
    return replace(
        log, **dict(zip(("log_lik", "log_prior", "log_q"), parts, strict=True)), sites=sites, scene=None
    )


ENUMERATED = {n: o for n, o in EVERY.items() if o.pointwise and Enumerate in o.expectations}


def same_by_other_labels(toy: Toy, objective: Objective) -> None:
    """The law: what the values of z are called does not matter."""
    with torch.no_grad():
        log = Enumerate()(toy.model, toy.guide, toy.batch)
    for bound in bounds(objective):
        torch.testing.assert_close(bound(relabelled(log)), bound(log), **EXACT)


def test_the_labels_of_z_change_nothing(toy: Toy) -> None:
    for objective in ENUMERATED.values():
        same_by_other_labels(toy, objective)


class LowLabels(ELBO):
    def bound(self, log: LogQuantities) -> Tensor:
        return log.expect_q(log.log_w - torch.arange(len(log.log_w))[:, None])


def test_depending_on_the_labels_is_found_out(toy: Toy) -> None:
    with pytest.raises(AssertionError):
        same_by_other_labels(toy, LowLabels())


def depends_as_said(objective: Objective, world: World) -> None:
    """The law: of the weights alone, if and only if densities may change by a common factor."""
    with torch.no_grad():
        log = world.run(Sample(PARTICLES), world.batch)
    shift = torch.randn(log.log_q.shape, generator=torch.Generator().manual_seed(2)).double()
    moved = replace(log, log_lik=log.log_lik + shift, log_q=log.log_q + shift)
    same = all(torch.allclose(b(moved), b(log), rtol=0, atol=1e-9) for b in bounds(objective))
    assert same == objective.of_weights


@pytest.mark.parametrize("name", [n for n, o in EVERY.items() if o.pointwise and Sample in o.expectations])
def test_a_function_of_the_weights_alone_says_so(name: str, world: Callable[[Objective], World]) -> None:
    depends_as_said(EVERY[name], world(EVERY[name]))


class Boasting(objectives.AutoGen):
    of_weights: ClassVar = True


class Modest(objectives.IWAE):
    of_weights: ClassVar = False


@pytest.mark.parametrize("wrong", [Boasting(), Modest()], ids=["boasting", "modest"])
def test_saying_otherwise_is_found_out(wrong: Objective, world: Callable[[Objective], World]) -> None:
    with pytest.raises(AssertionError):
        depends_as_said(wrong, world(wrong))
