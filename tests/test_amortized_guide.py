"""The amortised posterior: what its network reads, and what of it is computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.models import Backbone, Batch, Categorical, Full, LatentLM, Lora, Normal

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Unpad = Callable[[Batch], list[Batch]]
Randomise = Callable[..., None]

POOLINGS = ["mean", "last", "attention"]


@pytest.mark.parametrize("width", [0, 4])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_guide_starts_at_the_reference_laws(
    pooling: str, width: int, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama")
    model, batch = make_model(backbone, "prefix", {"c": Categorical(4), "v": Normal(3)}), make_batch(backbone)
    laws = AmortizedGuide(model, pooling, width).posterior(batch)
    torch.testing.assert_close(laws["c"].probs, torch.full((3, 4), 0.25))
    torch.testing.assert_close(laws["v"].mean, torch.zeros(3, 3))
    torch.testing.assert_close(laws["v"].variance, torch.ones(3, 3))


@pytest.mark.parametrize("every_layer", [False, True])
@pytest.mark.parametrize("arch", ["gpt2", "llama-grouped", "opt-projected"])
def test_features_are_pooled_over_the_response_alone(
    every_layer: bool,
    arch: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    unpad: Unpad,
) -> None:
    backbone = make_backbone(arch)
    guide, batch = AmortizedGuide(make_model(backbone), "mean", every_layer=every_layer), make_batch(backbone)
    features = guide.readers["z"].features(batch)
    for b, row in enumerate(unpad(batch)):
        ids, first = torch.cat([row.prompt, row.response], 1), row.prompt.shape[1]
        out = backbone.lm.base_model(input_ids=ids, output_hidden_states=True)
        layers = out.hidden_states[1:] if every_layer else [out.last_hidden_state]
        expected = torch.cat([layer[0, first:].mean(0) for layer in layers])
        torch.testing.assert_close(features[b], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("arch", ["gpt2", "llama-grouped", "opt-projected"])
def test_a_posterior_reads_responses_without_padding_after_their_prompts(
    pooling: str,
    arch: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    unpad: Unpad,
    randomise: Randomise,
) -> None:
    backbone = make_backbone(arch, {"posterior": Full()})
    guide, batch = AmortizedGuide(make_model(backbone), pooling, width=4), make_batch(backbone, cut=(1,))
    randomise(guide, backbone=False)
    law = guide.posterior(batch)["z"]
    for b, row in enumerate(unpad(batch)):
        torch.testing.assert_close(law.logits[b], guide.posterior(row)["z"].logits[0], atol=1e-5, rtol=1e-5)
    prompt = batch.prompt.clone()
    prompt[:, -1] = (prompt[:, -1] + 1) % backbone.vocab_size
    other = guide.posterior(replace(batch, prompt=prompt))["z"]
    assert ((other.logits - law.logits).abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_are_kept_only_where_they_never_change(
    pooling: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    randomise: Randomise,
) -> None:
    for role, constant in ((None, pooling != "attention"), (Lora(2), False)):
        backbone = make_backbone("gpt2", {"posterior": role} if role else None)
        guide, batch = AmortizedGuide(make_model(backbone), pooling), make_batch(backbone)
        randomise(guide, backbone=False)
        reader = guide.readers["z"]
        assert (reader.name is not None) == constant
        if constant:
            kept = {reader.name: reader.features(batch)}
            assert torch.equal(reader(replace(batch, features=kept)), reader(batch))
            swapped = {reader.name: kept[reader.name].flip(0)}
            assert torch.equal(reader(replace(batch, features=swapped)), reader(batch).flip(0))
