"""The sleep phase against a sum over every value of the latents and every response."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from stratagem.guides import AmortizedGuide
from stratagem.inference.expectations import Enumerate, Expectation, Sample
from stratagem.inference.gradients import Exact, Held
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import IWAE, MarginalLikelihood
from stratagem.inference.terms import Sleep
from stratagem.models import (
    Backbone,
    Batch,
    Example,
    LanguageModel,
    LatentLM,
    PooledRouter,
    collate,
    encode_prompt,
)
from stratagem.models.backbone import Lora
from torch import Tensor, nn

from .inference_fixtures import EXACT, LATENTS, GaussianGuide, LinearGaussian, Toy, close, gaussian_batch

LENGTH = 2
PROMPTS = [(1, 4), (4,)]


@pytest.fixture(params=sorted(LATENTS))
def dreamer(
    request: pytest.FixtureRequest,
    make_backbone: Callable[..., Backbone],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> Toy:
    """A model of five tokens, of whose responses of up to two tokens there are few."""
    backbone = make_backbone("gpt2", dtype=torch.float64, roles={"posterior": Lora(rank=2)}, vocab=5)
    model = make_model(backbone, latents=LATENTS[request.param], router=PooledRouter)
    guide = AmortizedGuide(model, pooling="attention").double()
    randomise(nn.ModuleDict({"model": model, "guide": guide}))
    return Toy(model, guide, collate([Example(x) for x in PROMPTS], backbone.pad_id), [])


def responses(backbone: Backbone) -> Iterator[tuple[int, ...]]:
    """All that end, or have two tokens."""
    for first in range(backbone.vocab_size):
        if first in backbone.eos_ids:
            yield (first,)
        else:
            yield from ((first, second) for second in range(backbone.vocab_size))


class Dreamt(Messenger):
    """Gives the sites of a run on prompts their values in place of draws, and keeps the chance of each."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values, self.log_p = values, torch.zeros(())

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.values and not msg["done"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True
            self.log_p = self.log_p + msg["fn"].log_prob(msg["value"])


def by_hand(toy: Toy) -> Tensor:
    """``-sum_{z,y} p(z|x) p(y|x,z) log q(z|x,y)`` for each prompt, one response at a time and without padding."""
    sizes = {name: range(latent.num_features) for name, latent in toy.model.latents.items()}
    total = []
    for prompt in PROMPTS:
        chance, cross = 0.0, 0.0
        for y in responses(toy.model.backbone):
            row = collate([Example(prompt, y)], pad_id=0)
            posterior = toy.guide.posterior(row)
            for values in itertools.product(*sizes.values()):
                z = {name: torch.tensor([k]) for name, k in zip(sizes, values, strict=True)}
                with torch.no_grad():
                    log_p = toy.model.decoder(row, z).log_prob(row.response)
                    log_p = log_p + sum(law.log_prob(z[name]) for name, law in toy.model.router(row).items())
                chance = chance + log_p.exp()
                cross = cross - log_p.exp() * sum(law.log_prob(z[name]) for name, law in posterior.items())
        torch.testing.assert_close(chance, torch.ones_like(chance), **EXACT)
        total.append(cross)
    return torch.cat(total)


def law_of_dreams(toy: Toy, term: Sleep, expectation: Expectation) -> None:
    """Value and gradient in expectation over all that the model can dream."""
    backbone = toy.model.backbone
    sizes = [latent.num_features for latent in toy.model.latents.values()]
    joint = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, len(sizes))
    padded = [y + (backbone.pad_id,) * (LENGTH - len(y)) for y in responses(backbone)]
    pairs = [(x, z, y) for x in range(len(PROMPTS)) for z in joint for y in padded]
    prompts = [PROMPTS[x] for x, _, _ in pairs]
    batch = collate([Example(x, (4,) * LENGTH) for x in prompts], backbone.pad_id)
    log = expectation(toy.model, toy.guide, batch)
    values = {name: torch.stack([z[i] for _, z, _ in pairs]) for i, name in enumerate(toy.model.latents)}
    dreamt = Dreamt(values | {"y": torch.tensor([y for _, _, y in pairs])})
    with dreamt:
        value = term.value(log)
    assert value.shape == (len(pairs),)
    weighted = (dreamt.log_p.detach().exp() * value).reshape(len(PROMPTS), -1).sum(1)
    truth = by_hand(toy)
    torch.testing.assert_close(weighted, truth, **EXACT)
    wanted = toy.gradients(truth.sum())
    moved = {n for n, g in wanted.items() if g.abs().max() > 1e-4}
    assert moved
    assert all(n.startswith("guide.") or ".posterior." in n for n in moved)
    close(toy.gradients(-term.signed_weight(1.0) * weighted.sum()), wanted)


@pytest.mark.parametrize(
    ("dreamer", "expectation"), [("one", Enumerate()), ("two", Sample(1))], indirect=["dreamer"]
)
def test_the_sleep_phase_is_the_sum_over_all_dreams(dreamer: Toy, expectation: Expectation) -> None:
    law_of_dreams(dreamer, Sleep(), expectation)


class Pushes(Sleep):
    sign = 1


class ReadsPadding(Sleep):
    """The guide reads on after the end token."""

    def value(self, log: LogQuantities) -> Tensor:
        class Unmasked(Messenger):
            def _pyro_post_sample(self, msg: Message) -> None:
                if isinstance(msg["fn"], LanguageModel) and not msg["is_observed"]:
                    msg["fn"].mask_of_value = torch.ones_like(msg["value"], dtype=torch.bool)

        with Unmasked():
            return super().value(log)


class FromTheGuide(Sleep):
    """The latents are those drawn from q, and the responses to them."""

    def value(self, log: LogQuantities) -> Tensor:
        given = poutine.Trace()
        for name, site in log.sites.items():
            given.add_node(name, name=name, type="sample", is_observed=False, infer={}, value=site.z[0])
        model = poutine.replay(log.scene.model, trace=given)
        return super().value(replace(log, scene=replace(log.scene, model=model)))


@pytest.mark.parametrize("dreamer", ["one"], indirect=True)
@pytest.mark.parametrize("wrong", [Pushes, ReadsPadding, FromTheGuide])
def test_the_law_of_dreams_tells_wrong_terms(dreamer: Toy, wrong: type[Sleep]) -> None:
    with pytest.raises(AssertionError):
        law_of_dreams(dreamer, wrong(), Sample(1))


@pytest.mark.parametrize(
    "inference",
    [
        Inference(MarginalLikelihood(), Enumerate(), Exact(), {"guide": Sleep(0.5)}),
        Inference(IWAE(), Sample(1), Held(), {"guide": Sleep(0.5, max_length=3)}),
        Inference(IWAE(), Sample(3, one_by_one=True), Held(), {"guide": Sleep(0.5)}),
    ],
    ids=["enumerate", "one draw", "one by one"],
)
def test_dreams_are_drawn_with_and_without_gradients(toy: Toy, inference: Inference) -> None:
    loss = inference(toy.model, toy.guide, toy.batch)
    with torch.no_grad():
        other = inference(toy.model, toy.guide, toy.batch)
    assert loss.terms["guide"].shape == other.terms["guide"].shape == (3,)
    assert (loss.terms["guide"] > 0).all()
    assert not torch.equal(loss.terms["guide"], other.terms["guide"]), "the same draws twice"
    torch.testing.assert_close(loss.objective, loss.bound.mean() - 0.5 * loss.terms["guide"].mean(), **EXACT)
    found = toy.gradients(loss.surrogate)
    assert any(g.any() for n, g in found.items() if n.startswith("guide."))


class Lengths(Messenger):
    """Keeps the shape of the response that is drawn."""

    def _pyro_post_sample(self, msg: Message) -> None:
        if msg["name"] == "y" and not msg["is_observed"]:
            self.shape = msg["value"].shape


@pytest.mark.parametrize(("max_length", "expected"), [(None, 4), (7, 7), (1, 1)])
def test_a_dream_is_as_long_as_asked(toy: Toy, max_length: int | None, expected: int) -> None:
    log = Sample(2)(toy.model, toy.guide, toy.batch)
    with Lengths() as seen:
        Sleep(max_length=max_length).value(log)
    assert seen.shape == (3, expected)


def test_what_is_kept_of_the_datas_responses_is_not_read_with_dreams(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> None:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model = make_model(backbone, router=PooledRouter)
    guide, batch = AmortizedGuide(model).double(), make_batch(backbone)
    randomise(nn.ModuleDict({"model": model, "guide": guide}))
    readers = [*guide.readers.values(), model.routers["z"].reader]
    kept = {reader.name: reader.features(batch) for reader in readers}
    assert len(kept) == 2
    assert None not in kept
    values = []
    for features in ({}, kept):
        torch.manual_seed(0)
        log = Enumerate()(model, guide, replace(batch, features=features))
        values.append(Sleep().value(log))
    torch.testing.assert_close(*values, **EXACT)


class Plan(nn.Module):
    """A program of one's own: a plan, and a response whose law a step picked by the plan conditions."""

    def __init__(self, backbone: Backbone, observe: bool = True) -> None:
        super().__init__()
        self.backbone, self.observe = backbone, observe
        self.plan = nn.Parameter(torch.randn(3, dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        law = LanguageModel(self.backbone, prompt, None, batch.max_length, batch.response_mask)
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("plan", dist.Categorical(logits=self.plan))
            pyro.sample("y", law if self.observe else dist.Poisson(1.0), obs=batch.response)


class PlanGuide(nn.Module):
    """Reads the number of tokens of the response."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(9, 3, dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("plan", dist.Categorical(logits=self.logits[batch.response_mask.sum(1)]))


def test_a_program_of_ones_own_dreams(
    make_backbone: Callable[..., Backbone], make_batch: Callable[..., Batch]
) -> None:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model, guide, batch = Plan(backbone), PlanGuide(), make_batch(backbone)
    log = Enumerate()(model, guide, batch)
    ended = (4, backbone.eos_ids[0], 4, 4)
    values = {"plan": torch.tensor([0, 1, 2]), "y": torch.tensor([ended, ended, (4, 4, 4, 4)])}
    with Dreamt(values):
        value = Sleep().value(log)
    log_q = guide.logits.log_softmax(1)
    torch.testing.assert_close(value, -torch.stack([log_q[2, 0], log_q[2, 1], log_q[4, 2]]), **EXACT)


def test_a_program_that_does_not_draw_responses_is_refused(
    make_backbone: Callable[..., Backbone], make_batch: Callable[..., Batch]
) -> None:
    log = Sample(2)(LinearGaussian(), GaussianGuide(), gaussian_batch())
    with pytest.raises(
        ValueError, match=r"Sleep: .* draws z \(Normal\); expected its latents z and a response"
    ):
        Sleep().value(log)
    backbone = make_backbone("gpt2", dtype=torch.float64)
    log = Enumerate()(Plan(backbone), PlanGuide(), make_batch(backbone))
    log.scene.model.observe = False
    with pytest.raises(
        ValueError, match=r"draws plan \(Categorical\), y \(Poisson\); expected .* LanguageModel"
    ):
        Sleep().value(log)


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="Sleep: max_length must be at least 1, got 0"):
        Sleep(max_length=0)
