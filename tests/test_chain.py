"""Chains of latents, one for each layer or for each segment, and the guide that draws them in turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from hydra import compose, initialize_config_module
from pyro import poutine
from stratagem.guides import AutoregressiveGuide, ExactGuide, OriginGuide, SemiAmortisedGuide
from stratagem.inference.build import build_backbone, build_step
from stratagem.inference.commands import main
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact, Pathwise
from stratagem.inference.inference import Inference
from stratagem.inference.objectives import ELBO, MarginalLikelihood
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Chain,
    KeyValuePrefix,
    Latent,
    LayeredLM,
    MixturePrior,
    Normal,
    PooledRouter,
    Residual,
    SegmentedLM,
    SlotTokens,
    TensorProduct,
    generate,
)
from stratagem.models.pretrained import load_pretrained
from torch import nn

from .fit_fixtures import own_logging, save_tiny_base, tiny_fit

Make = Callable[..., Backbone]
Batches = Callable[..., Batch]


def layered(backbone: Backbone, latent: Latent) -> LayeredLM:
    return LayeredLM(backbone, {"z": latent}, PooledRouter, partial(TensorProduct, rank=2, init_scale=0.5))


def segmented(backbone: Backbone, latent: Latent, segments: int = 3) -> SegmentedLM:
    prefix = partial(KeyValuePrefix, length=1)
    return SegmentedLM(backbone, {"z": latent}, PooledRouter, prefix, segments=segments, length=2)


MODELS: dict[str, Callable[..., Chain]] = {"layered": layered, "segmented": segmented}


@pytest.fixture(params=sorted(MODELS))
def chain(request: pytest.FixtureRequest, make_backbone: Make, randomise: Callable) -> Chain:
    model = MODELS[request.param](make_backbone("llama", dtype=torch.float64), Categorical(3)).double()
    randomise(model)
    return model


def laws(model: Chain, batch: Batch, z: dict[str, int]) -> dict[str, torch.Tensor]:
    """Probabilities of each latent given those before it, ``(B, K)``, and of the response, ``(B,)``."""
    given = {name: torch.full((len(batch),), value) for name, value in z.items()}
    trace = poutine.trace(poutine.condition(model, data=given)).get_trace(batch)
    assert batch.response is not None
    found = {name: trace.nodes[name]["fn"].probs.expand(len(batch), -1) for name in model.latents}
    return found | {"y": trace.nodes["y"]["fn"].log_prob(batch.response).exp()}


def test_the_marginal_is_the_sum_over_the_chain(chain: Chain, make_batch: Batches) -> None:
    batch = make_batch(chain.backbone)
    guide = AutoregressiveGuide(chain).double()
    loss = Inference(MarginalLikelihood(), Enumerate(), Exact())(chain, guide, batch)
    total = torch.zeros(len(batch), dtype=torch.float64)
    for values in itertools.product(range(3), repeat=len(chain.latents)):
        z = dict(zip(chain.latents, values, strict=True))
        found = laws(chain, batch, z)
        p = found["y"]
        for name, value in z.items():
            p = p * found[name][:, value]
        total += p
    torch.testing.assert_close(loss.bound, total.log(), rtol=1e-9, atol=0)


def test_how_far_back_a_law_looks(make_backbone: Make, make_batch: Batches, randomise: Callable) -> None:
    for name, whole in (("layered", True), ("segmented", False)):
        model = MODELS[name](make_backbone("llama", num_hidden_layers=3), Categorical(3))
        randomise(model)
        batch = make_batch(model.backbone)
        last = [laws(model, batch, {"z0": first, "z1": 1, "z2": 0})["z2"] for first in (0, 2)]
        assert torch.equal(*last) is not whole
        near = [laws(model, batch, {"z0": 0, "z1": second, "z2": 0})["z2"] for second in (0, 2)]
        assert not torch.equal(*near)


def test_a_chain_starts_as_independent_latents(make_backbone: Make, make_batch: Batches) -> None:
    for make in MODELS.values():
        model = make(make_backbone("llama"), Categorical(3))
        found = laws(model, make_batch(model.backbone), dict.fromkeys(model.latents, 2))
        assert all(torch.allclose(found[name], torch.full((3,), 1 / 3)) for name in model.latents)


def test_a_latent_acts_from_its_segment_on(make_backbone: Make, make_batch: Batches) -> None:
    model = segmented(make_backbone("llama"), Categorical(3))
    batch = make_batch(model.backbone, prompts=(3,), responses=(8,))

    def tokens(values: tuple[int, ...]) -> torch.Tensor:
        given = {name: torch.tensor([v]) for name, v in zip(model.latents, values, strict=True)}
        trace = poutine.trace(poutine.condition(model, data=given)).get_trace(batch)
        return trace.nodes["y"]["fn"].token_log_probs(batch.response)[0]

    start = tokens((0, 0, 0))
    for place, changed in enumerate([(1, 0, 0), (0, 1, 0), (0, 0, 1)]):
        differs = (tokens(changed) - start).abs() > 1e-6
        assert differs.tolist() == [t >= 2 * place for t in range(8)]


def test_a_latent_acts_in_its_layer(make_backbone: Make) -> None:
    model = layered(make_backbone("llama", num_hidden_layers=3), Categorical(3))
    assert list(model.latents) == ["z0", "z1", "z2"]
    memory = model.memory([torch.tensor(1)] * 3)
    assert [edit.layer for edit in memory.edits] == [0, 1, 2]


def test_what_is_written_step_by_step_is_what_is_scored(chain: Chain) -> None:
    z = dict.fromkeys(chain.latents, 1)
    (found,) = generate(chain, ["s1 s2"], z, max_new_tokens=6, temperature=0.0)
    prompt = chain.backbone.tokenizer("s1 s2")["input_ids"]
    words: list[int] = []
    for _ in range(6):
        response = torch.tensor([[*words, 5]])
        batch = Batch(torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.bool), response)
        given = {name: torch.tensor([v]) for name, v in z.items()}
        trace = poutine.trace(poutine.condition(chain, data=given)).get_trace(batch)
        words.append(int(trace.nodes["y"]["fn"].logits(response)[0, -1].argmax()))
        if words[-1] in chain.backbone.eos_ids:
            break
    assert found.text == chain.backbone.tokenizer.decode(words, skip_special_tokens=True)


def test_the_guide_draws_each_given_those_before(
    chain: Chain, make_batch: Batches, randomise: Callable
) -> None:
    batch = make_batch(chain.backbone)
    guide = AutoregressiveGuide(chain).double()
    randomise(guide)
    names = list(chain.latents)
    found = []
    for first in (0, 1):
        with poutine.trace() as trace, poutine.condition(data={names[0]: torch.full((len(batch),), first)}):
            guide(batch)
        found.append(trace.trace.nodes[names[1]]["fn"].probs)
    assert not torch.allclose(*found)
    before = guide.readers[names[1]](batch)
    weight = guide.carry.maps[1][0].weight  # (K, K)
    for first in (0, 1):
        torch.testing.assert_close(found[first], (before + weight[:, first]).softmax(-1))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_gradients_reach_every_part_by_draws(name: str, make_backbone: Make, make_batch: Batches) -> None:
    model = MODELS[name](make_backbone("llama"), Normal(2))
    guide = AutoregressiveGuide(model)
    both = nn.ModuleDict({"model": model, "guide": guide})
    batch = make_batch(model.backbone, responses=(6, 8, 7))
    for _ in range(2):  # what starts at zero moves first, and then what it multiplies
        both.zero_grad()
        Inference(ELBO(), Sample(4), Pathwise())(model, guide, batch).surrogate.backward()
        with torch.no_grad():
            for weight in both.parameters():
                if weight.grad is not None:
                    weight -= 0.1 * weight.grad
    still = [
        n for n, p in both.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not still


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (
            lambda b: LayeredLM(b, {"z": Normal(2)}, PooledRouter, KeyValuePrefix),
            "a setting layers: conditioning=",
        ),
        (lambda b: SegmentedLM(b, {"z": Normal(2)}, PooledRouter, Residual), "use conditioning=prefix"),
        (lambda b: SegmentedLM(b, {"z": Normal(2)}, PooledRouter, SlotTokens), "use conditioning=prefix"),
        (
            lambda b: LayeredLM(b, {"z": Normal(2)}, MixturePrior, Residual),
            "MixturePrior makes a mixture of such laws; use router=pooled",
        ),
        (lambda b: segmented(b, Normal(2), 1), "a chain of at least 2, got z and 1"),
        (
            lambda b: LayeredLM(b, {"z": Normal(2), "w": Normal(2)}, PooledRouter, Residual),
            "expected one family of latents .* got z, w",
        ),
    ],
)
def test_what_makes_no_chain_is_refused(
    make: Callable[[Backbone], Chain], named: str, make_backbone: Make
) -> None:
    with pytest.raises(ValueError, match=named):
        make(make_backbone("llama"))


@pytest.mark.parametrize("model", ["layered", "segmented"])
def test_a_chain_is_fitted_saved_and_read_again(model: str, tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    conditioning = ["conditioning=tensor_product"] if model == "layered" else ["conditioning=prefix"]
    words = [word for word in tiny_fit(base, tmp_path / "run") if not word.startswith("conditioning")]
    more = ["latent@latents.z=normal", "latents.z.D=2", "inference=elbo_pathwise", "guide=autoregressive"]
    with own_logging():
        main([*words, *conditioning, f"model={model}", *more])
    saved, guide = load_pretrained(tmp_path / "run")
    assert isinstance(saved, Chain)
    assert isinstance(guide, AutoregressiveGuide)
    z = {name: [0.5, -0.5] for name in saved.latents}
    pyro.set_rng_seed(0)
    assert len(generate(saved, ["sort 3 1 2 :"], z, n=2, max_new_tokens=4)) == 2


@pytest.mark.parametrize("make", [ExactGuide, SemiAmortisedGuide, OriginGuide])
def test_guides_that_ask_for_router_and_decoder_refuse_a_chain(make: Any, make_backbone: Make) -> None:
    for model in (kind(make_backbone("llama"), Categorical(3)) for kind in MODELS.values()):
        with pytest.raises(
            ValueError, match=r"has no router and no decoder.*use guide=amortized, or guide=auto"
        ):
            make(model)


def test_an_algorithm_that_a_chain_cannot_have_is_refused_before_its_data_are_made(tmp_path: Path) -> None:
    save_tiny_base(tmp_path / "base")
    words = [f"lm={tmp_path / 'base'}", "model=segmented", "inference=elbo_pathwise"]
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        config = compose("fit", words)
    backbone = build_backbone(config)
    with pytest.raises(ValueError, match="Pathwise needs every latent to be reparameterised"):
        build_step(config, backbone)
