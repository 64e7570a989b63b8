"""Laws that take gradient steps of their own towards the posterior, and a mixture as a prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from stratagem.guides import AmortizedGuide, FlowGuide, OriginGuide, RefinedGuide, SemiAmortisedGuide, refined
from stratagem.guides.refined import LARGEST
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Dirichlet,
    Example,
    Latent,
    LatentLM,
    MixturePrior,
    Normal,
    VampPrior,
    VonMisesFisher,
    collate,
)
from torch import Tensor, nn

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Randomise = Callable[..., None]

GUIDES: dict[str, Callable[..., RefinedGuide]] = {"semi_amortised": SemiAmortisedGuide, "origin": OriginGuide}
guides = pytest.mark.parametrize("kind", GUIDES)


def strong(
    make_backbone: MakeBackbone, make_model: MakeModel, latent: Latent, init_scale: float = 1.0
) -> LatentLM:
    """A model whose responses tell much of z."""
    torch.manual_seed(0)
    backbone = make_backbone("gpt2", dtype=torch.float64)
    return make_model(backbone, "residual", {"z": latent}, init_scale=init_scale)


def elbo(model: LatentLM, guide: RefinedGuide, batch: Batch, draws: int = 4000) -> Tensor:
    """Of each datum, by draws; ``(B,)``."""
    with torch.no_grad():
        law, prior = guide.posterior(batch)["z"], model.router(batch)["z"]
        z = law.sample((draws,))
        return (
            model.decoder(batch, {"z": z}).log_prob(batch.response) + prior.log_prob(z) - law.log_prob(z)
        ).mean(0)


@guides
@pytest.mark.parametrize("latent", [Normal(2), VonMisesFisher(3), Dirichlet(3)])
def test_steps_come_nearer_to_the_posterior_of_each_datum(
    kind: str, latent: Latent, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    model = strong(make_backbone, make_model, latent)
    batch = make_batch(model.backbone)
    none, some = (
        elbo(model, GUIDES[kind](model, steps=steps, step_size=size, num_particles=16).double(), batch)
        for steps, size in ((1, 1e-9), (8, 0.1))
    )
    assert (some > none - 0.02).all()
    assert float((some - none).mean()) > 0.05


@guides
def test_a_step_is_along_the_gradient_of_the_bound(
    kind: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against finite differences at the same draws, in each parameter of the law."""
    model = strong(make_backbone, make_model, Normal(2), 0.3)
    monkeypatch.setattr(refined, "LARGEST", 1e9)
    batch = make_batch(model.backbone)
    guide = GUIDES[kind](model, num_particles=3).double()
    parameters = {"z": 0.3 * torch.randn(len(batch), 4, dtype=torch.float64)}
    found = guide._gradients(batch, parameters)["z"]

    def bound(value: Tensor) -> Tensor:
        law, z = Normal(2).law(value), guide._draws("z", value)
        prior = model.router(batch)["z"]
        log_lik = model.decoder(batch, {"z": z}).log_prob(batch.response)
        return (log_lik + prior.log_prob(z) - law.log_prob(z)).mean(0)

    for i in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[i] = 1e-5
        with torch.no_grad():
            slope = (bound(parameters["z"] + step) - bound(parameters["z"] - step)) / 2e-5
        torch.testing.assert_close(found[:, i], slope, atol=1e-6, rtol=1e-5)


@guides
def test_start_and_step_sizes_are_learned_and_the_model_is_not_moved_by_the_steps(
    kind: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    model = strong(make_backbone, make_model, Normal(2))
    batch, guide = make_batch(model.backbone), GUIDES[kind](model).double()
    law = guide.posterior(batch)["z"]
    law.mean.sum().backward()
    assert model.conditionings["z"].weight.grad is None
    assert guide.log_steps["z"].grad[:2].abs().max() > 0
    start = guide.origin["z"] if isinstance(guide, OriginGuide) else guide.amortised.readers["z"].output.bias
    torch.testing.assert_close(start.grad[:2], torch.full((2,), float(len(batch)), dtype=torch.float64))
    again = guide.posterior(batch)["z"]
    assert torch.equal(again.mean, law.mean), "a function of x and y"
    with torch.no_grad():
        assert torch.equal(guide.posterior(batch)["z"].mean, law.mean)


@guides
def test_the_law_of_a_datum_is_the_same_whatever_stands_beside_it(
    kind: str, make_backbone: MakeBackbone, make_model: MakeModel
) -> None:
    model = strong(make_backbone, make_model, Normal(2))
    guide = GUIDES[kind](model, num_particles=2).double()
    one, others = Example((3, 4), (5, 6)), [Example((5,), (4, 3, 6)), Example((6, 3, 3), (4,))]
    rows = [[one], [one, *others], [others[0], one], [*others, one]]
    means = [guide.posterior(collate(row, 0))["z"].mean[row.index(one)] for row in rows]
    for mean in means[1:]:
        torch.testing.assert_close(mean, means[0], atol=1e-9, rtol=0)


@guides
def test_one_datum_cannot_throw_its_law_far_away(
    kind: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    model = strong(make_backbone, make_model, Normal(2), 100.0)
    batch = make_batch(model.backbone)
    guide = GUIDES[kind](model).double()
    found = guide._gradients(batch, guide.start(batch))["z"]
    assert found.norm(dim=-1).max() <= LARGEST * (1 + 1e-9)


def test_what_has_no_gradient_is_refused(make_backbone: MakeBackbone, make_model: MakeModel) -> None:
    model = make_model(make_backbone("gpt2"))
    for make in GUIDES.values():
        with pytest.raises(
            ValueError, match="latent z is Categorical, whose law has no gradient by its draws"
        ):
            make(model)
        with pytest.raises(ValueError, match="steps and num_particles of at least 1"):
            make(make_model(make_backbone("gpt2"), "prefix", {"z": Normal(2)}), steps=0)
    mixed = make_model(make_backbone("gpt2"), "prefix", {"a": Categorical(2), "b": Normal(2)})
    with pytest.raises(ValueError, match=r"; use guide=amortized$"):
        OriginGuide(mixed)


def test_laws_that_are_changed_afterwards_are_no_vamp_prior(
    make_backbone: MakeBackbone, make_model: MakeModel
) -> None:
    model = make_model(make_backbone("gpt2"), "prefix", {"z": Normal(2)}, partial(VampPrior, components=3))
    for make in (FlowGuide, SemiAmortisedGuide, OriginGuide):
        with pytest.raises(ValueError, match="router=vamp makes p"):
            make(model)


def test_a_mixture_is_the_mean_of_its_members(make_backbone: MakeBackbone, make_batch: MakeBatch) -> None:
    backbone = make_backbone("gpt2")
    for latent in (Normal(2), VonMisesFisher(3), Dirichlet(3)):
        router, batch = MixturePrior(backbone, latent, 3), make_batch(backbone)
        torch.nn.init.normal_(router.logits)
        law = router(batch)
        assert (law.batch_shape, law.event_shape) == (
            (3,),
            latent.law(torch.zeros(latent.num_parameters)).event_shape,
        )
        z = law.sample((5,))
        weights = router.logits.log_softmax(0)
        each = torch.stack(
            [w + latent.law(row).log_prob(z) for w, row in zip(weights, router.members, strict=True)]
        )
        torch.testing.assert_close(law.log_prob(z), each.logsumexp(0))
        law.log_prob(z).sum().backward()
        assert router.members.grad.isfinite().all()
        assert router.members.grad.abs().sum(1).min() > 0


def test_members_learn_to_part(make_backbone: MakeBackbone, make_batch: MakeBatch) -> None:
    """Two heaps of points: the prior that has learned them has the entropy of the right law, one Gaussian has not."""
    torch.manual_seed(0)
    router, batch = MixturePrior(make_backbone("gpt2"), Normal(1), 2), make_batch(make_backbone("gpt2"))
    z = torch.cat([torch.randn(200, 1) - 4, torch.randn(200, 1) + 4])
    optimizer = torch.optim.Adam(router.parameters(), 0.1)
    for _ in range(500):
        loss = -router(batch).log_prob(z[:, None]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = math.log(2) + 0.5 * math.log(2 * math.pi * math.e)
    assert loss.item() == pytest.approx(right, abs=0.1)


def test_a_vamp_prior_is_the_mean_of_the_guide_at_its_pseudo_inputs(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel, randomise: Randomise
) -> None:
    backbone = make_backbone("gpt2")
    model = make_model(backbone, "prefix", {"z": Normal(2)}, partial(VampPrior, components=3))
    batch = make_batch(backbone)
    with pytest.raises(ValueError, match=r"router vamp: the guide has no head on the response"):
        model.router(batch)
    guide = AmortizedGuide(model, width=4)
    randomise(guide, backbone=False)
    router, reader = model.routers["z"], guide.readers["z"]
    law = model.router(batch)["z"]
    z = law.sample((5,))
    each = torch.stack([Normal(2).law(reader.head(u)).log_prob(z) for u in router.inputs])
    torch.testing.assert_close(law.log_prob(z), each.logsumexp(0) - math.log(3))
    law.log_prob(z).sum().backward()
    assert router.inputs.grad.abs().sum(1).min() > 0
    assert reader.output.weight.grad.abs().max() > 0
    names = [name for name, _ in nn.ModuleDict({"model": model, "guide": guide}).named_parameters()]
    assert "model.routers.z.inputs" in names
    assert not any("routers" in name and "head" in name for name in names), "the head stays the guide's"


def test_mixtures_that_cannot_be_are_refused(make_backbone: MakeBackbone) -> None:
    for make, name in ((MixturePrior, "mixture"), (VampPrior, "vamp")):
        with pytest.raises(ValueError, match=rf"router {name}: components must be at least 2, got 1"):
            make(make_backbone("gpt2"), Normal(2), 1)
        with pytest.raises(ValueError, match=rf"router {name}: latent Categorical has finitely many values"):
            make(make_backbone("gpt2"), Categorical(2))
