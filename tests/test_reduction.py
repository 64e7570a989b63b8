"""A model with fewer strategies has the laws of those that are kept, and of a group the mass of its members."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from stratagem.guides import AmortizedGuide, ExactGuide
from stratagem.inference.pruning import Pruning
from stratagem.inference.reduction import check_reducible, reduce
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Conditioning,
    KeyValuePrefix,
    LatentLM,
    LearnedPrior,
    Memory,
    Normal,
    PooledRouter,
    Router,
    TokenRouter,
    UniformPrior,
)
from stratagem.models.reader import Reader
from torch import Tensor, nn

EXACT = {"rtol": 0.0, "atol": 1e-7}

ROUTERS: dict[str, Callable[..., Router]] = {
    "pooled": PooledRouter,
    "wide": partial(PooledRouter, width=4),
    "learned": LearnedPrior,
    "token": TokenRouter,
    "uniform": UniformPrior,
}

Make = Callable[..., tuple[LatentLM, AmortizedGuide, Batch]]


@pytest.fixture
def make(
    make_backbone: Callable[..., Backbone],
    make_model: Callable[..., LatentLM],
    make_batch: Callable[..., Batch],
    randomise: Callable[..., None],
) -> Make:
    """A model of five strategies with random weights."""

    def made(
        router: Callable[..., Router] = PooledRouter, kind: str = "prefix", width: int = 0
    ) -> tuple[LatentLM, AmortizedGuide, Batch]:
        backbone = make_backbone("llama", dtype=torch.float64)
        model = make_model(backbone, kind, {"z": Categorical(5)}, router)
        guide = AmortizedGuide(model, width=width).double()
        randomise(nn.ModuleDict({"model": model, "guide": guide}))
        batch = make_batch(backbone, prompts=(3, 1, 5, 2), responses=(2, 4, 1, 3))
        return model, guide, batch

    return made


@torch.no_grad()
def laws(model: LatentLM, guide: AmortizedGuide, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """``p(z|x)`` and ``q(z|x,y)``, ``(B, K)``, and ``log p(y|x,z)``, ``(K, B)``."""
    z = torch.arange(model.latents["z"].num_features)[:, None]
    log_lik = model.decoder(batch, {"z": z}).log_prob(batch.response)
    return model.router(batch)["z"].probs.double(), guide.posterior(batch)["z"].probs, log_lik


def marginal(model: LatentLM, guide: AmortizedGuide, batch: Batch) -> Tensor:
    router, _, log_lik = laws(model, guide, batch)
    return (router.log() + log_lik.T).logsumexp(1)


def summed(law: Tensor, groups: list[list[int]]) -> Tensor:
    return torch.stack([law[:, group].sum(1) for group in groups], 1)


@pytest.mark.parametrize("kind", ["prefix", "slots"])
@pytest.mark.parametrize("name", ROUTERS)
def test_of_what_is_left_alone_nothing_changes(make: Make, name: str, kind: str) -> None:
    """Responses as they were; router and guide those given that z is one of what is left."""
    model, guide, batch = make(ROUTERS[name], kind, width=3 if kind == "slots" else 0)
    router, q, log_lik = laws(model, guide, batch)
    kept = [1, 2, 4]
    reduce(model, guide, Pruning([[k] for k in kept], [0, 3], [0.2] * 5, {}), router, [batch])
    found = laws(model, guide, batch)
    torch.testing.assert_close(found[0], router[:, kept] / router[:, kept].sum(1, keepdim=True), **EXACT)
    torch.testing.assert_close(found[1], q[:, kept] / q[:, kept].sum(1, keepdim=True), **EXACT)
    torch.testing.assert_close(found[2], log_lik[kept], **EXACT)
    assert [p.shape[0] for p in guide.parameters() if p.requires_grad][-2:] == [3, 3]
    with pytest.raises(ValueError, match=r"z must be in 0\.\.2"):
        model.memory({"z": torch.tensor([3])})


GROUPS = [[1, 3], [2], [4, 0]]

USAGE = [0.1, 0.3, 0.1, 0.2, 0.3]


@torch.no_grad()
def give_constant_shares(model: LatentLM, guide: AmortizedGuide) -> None:
    """The same share of each member within its group on every datum, in the guide that of the usage."""
    router, last = model.routers["z"], guide.readers["z"].output
    heads = [router.reader.output.weight] if isinstance(router, PooledRouter) else []
    heads += [router.rows] if isinstance(router, TokenRouter) else []
    for weight in (*heads, last.weight):
        weight[3], weight[0] = weight[1], weight[4]
    last.bias.copy_(torch.tensor(USAGE).log())


def law_of_the_groups(make: Make, name: str) -> None:
    model, guide, batch = make(ROUTERS[name])
    give_constant_shares(model, guide)
    router, q, log_lik = laws(model, guide, batch)
    reduce(model, guide, Pruning(GROUPS, [], USAGE, {}), router, [batch])
    found = laws(model, guide, batch)
    torch.testing.assert_close(found[0], summed(router, GROUPS), **EXACT)
    torch.testing.assert_close(found[1], summed(q, GROUPS), **EXACT)
    torch.testing.assert_close(found[2], log_lik[[1, 2, 4]], **EXACT)


@pytest.mark.parametrize("name", sorted(set(ROUTERS) - {"uniform"}))
def test_a_group_has_the_mass_of_its_members(make: Make, name: str) -> None:
    law_of_the_groups(make, name)


def test_the_law_of_the_groups_tells_wrong_versions(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Reader.regroup
    wrong = {
        "the mass forgotten": lambda reader, weight, gain: true(reader, weight, 0 * gain),
        "another member": lambda reader, weight, gain: true(reader, weight.roll(1, 1), gain),
        "all members added": lambda reader, weight, gain: true(reader, (weight > 0).double(), gain),
    }
    for version in wrong.values():
        monkeypatch.setattr(Reader, "regroup", version)
        with pytest.raises(AssertionError):
            law_of_the_groups(make, "pooled")


def test_merging_what_is_one_leaves_the_marginal(make: Make) -> None:
    """Strategies with the same conditioning are one: p(y|x) is what it was."""
    model, guide, batch = make()
    give_constant_shares(model, guide)
    with torch.no_grad():
        weight = model.conditionings["z"].weight
        weight[3], weight[0] = weight[1], weight[4]
    before = marginal(model, guide, batch)
    reduce(model, guide, Pruning(GROUPS, [], USAGE, {}), laws(model, guide, batch)[0], [batch])
    torch.testing.assert_close(marginal(model, guide, batch), before, **EXACT)


def test_the_router_keeps_the_mean_mass_of_one_whose_members_take_turns(make: Make) -> None:
    """The shares within a group may differ: its mass is that of the group in the mean, relative to what is kept."""
    model, guide, batch = make()
    router, _, _ = laws(model, guide, batch)
    reduce(model, guide, Pruning(GROUPS, [], USAGE, {}), router, [batch])
    gain = torch.tensor([router[:, g].sum() / router[:, g[0]].sum() for g in GROUPS], dtype=torch.double)
    expected = router[:, [1, 2, 4]] * gain
    torch.testing.assert_close(
        laws(model, guide, batch)[0], expected / expected.sum(1, keepdim=True), **EXACT
    )


def test_the_guide_forgets_what_the_members_differ_in(make: Make) -> None:
    """A guide that is strategy and mark, each linear in what it reads: what is left is that of the strategy."""
    model, guide, batch = make()
    last = guide.readers["z"].output
    with torch.no_grad():
        mark = torch.randn_like(last.weight[0])
        last.weight[0] = last.weight[4] + mark
        last.weight[3] = last.weight[1] + mark
        last.bias[[0, 3]] = last.bias[[4, 1]] + 1.0
    _, q, _ = laws(model, guide, batch)
    router = laws(model, guide, batch)[0]
    groups = [[1, 3], [4, 0]]
    reduce(model, guide, Pruning(groups, [2], [0.1, 0.4, 0.0, 0.1, 0.4], {}), router, [batch])
    expected = summed(q, groups)
    assert q[:, [0, 4]].std() > 0.01
    torch.testing.assert_close(
        laws(model, guide, batch)[1], expected / expected.sum(1, keepdim=True), **EXACT
    )


def test_a_uniform_router_stays_uniform_and_an_exact_guide_exact(make: Make) -> None:
    model, _, batch = make(UniformPrior)
    guide = ExactGuide(model)
    log_lik = guide.log_joint(batch) + torch.log(torch.tensor(5.0))
    reduce(model, guide, Pruning(GROUPS, [], USAGE, {}), torch.full((4, 5), 0.2), [batch])
    torch.testing.assert_close(model.router(batch)["z"].probs, torch.full((4, 3), 1 / 3), **EXACT)
    expected = log_lik[[1, 2, 4]] - torch.log(torch.tensor(3.0))
    torch.testing.assert_close(guide.log_joint(batch), expected, **EXACT)


class Bare(Conditioning):
    def memory(self, features: Tensor) -> Memory:  # noqa: ARG002
        return Memory()

    def rescale(self, factor: Tensor) -> None:
        """It adds nothing."""


class Unknown(Router):
    def parameters_of(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch), self.latent.num_parameters)


def test_what_cannot_be_told_apart_by_strategy_is_refused(
    make: Make, make_model: Callable[..., LatentLM]
) -> None:
    model, guide, _ = make()
    backbone = model.backbone
    two = make_model(backbone, latents={"a": Categorical(2), "b": Normal(2)})
    normal = make_model(backbone, latents={"w": Normal(2)})
    bare = LatentLM(backbone, {"z": Categorical(2)}, UniformPrior, Bare)
    routed = LatentLM(backbone, {"z": Categorical(2)}, Unknown, KeyValuePrefix)
    cases: list[tuple[nn.Module, nn.Module, str]] = [
        (nn.Linear(1, 1), guide, "expected a LatentLM, got Linear"),
        (two, AmortizedGuide(two), r"one categorical latent.*the model has a \(Categorical\), b \(Normal\)"),
        (normal, AmortizedGuide(normal), r"the model has w \(Normal\)"),
        (
            routed,
            AmortizedGuide(routed),
            r"router Unknown: .*expected GroupedRouter",
        ),
        (bare, AmortizedGuide(bare), "conditioning Bare.*expected LinearConditioning"),
        (model, nn.Linear(1, 1), "guide Linear.*expected AmortizedGuide or ExactGuide"),
    ]
    assert check_reducible(model, guide) == "z"
    for wrong, its_guide, named in cases:
        with pytest.raises(ValueError, match=named):
            check_reducible(wrong, its_guide)
