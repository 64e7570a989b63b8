"""How z enters the decoder, against HF forwards with the memory set in by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    LatentLM,
    Lora,
    Memory,
    Normal,
    SlotTokens,
    UniformPrior,
)
from torch import Tensor
from transformers import DynamicCache

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Unpad = Callable[[Batch], list[Batch]]
Randomise = Callable[..., None]

LATENTS = {"categorical": Categorical(3), "normal": Normal(2)}
VALUES = {"categorical": torch.tensor(2), "normal": torch.tensor([0.7, -1.2])}
ALL_Z = {"z": torch.arange(3)[:, None]}
TAG = 0.05
"""The strength of a delimiter that the tagged template has of itself."""


def additive(seen: Tensor, bias: Tensor) -> Tensor:
    """The mask ``(1, 1, Tq, Tk)`` of pairs that are seen, whose keys gain ``bias``."""
    return torch.where(seen, bias, torch.finfo(torch.float32).min)[None, None]


def prefix_logits(backbone: Backbone, memory: Memory, strength: float, row: Batch) -> Tensor:
    """Before each token of the response, by HF with the memory as a cache in front of ``[x, y]``."""
    layers = zip(memory.key_values.keys, memory.key_values.values, strict=True)
    past = DynamicCache([(k[None], v[None]) for k, v in layers], config=backbone.lm.config)
    ids = torch.cat([row.prompt, row.response[:, :-1]], 1)
    last, length, extra = row.prompt.shape[1] - 1, ids.shape[1], memory.key_values.length
    seen_memory = (torch.arange(length) >= last)[:, None].expand(-1, extra)
    seen = torch.cat([seen_memory, torch.ones(length, length).tril().bool()], 1)
    bias = torch.tensor([math.log(strength)] * extra + [0.0] * length)
    places = torch.arange(length)[None]
    out = backbone.lm(
        input_ids=ids, past_key_values=past, attention_mask=additive(seen, bias), position_ids=places
    )
    return out.logits[0, last:]


def slot_logits(model: LatentLM, tokens: Tensor, strength: float, row: Batch) -> Tensor:
    """Before each token of the response, by HF on one row of embeddings; only text takes positions."""
    lm, last = model.backbone.lm, row.prompt.shape[1] - 1
    words = lm.get_input_embeddings()(torch.cat([row.prompt, row.response[:, :-1]], 1))[0]
    text = [(word, place, 0.0) for place, word in enumerate(words)]
    before, after = text[:last], text[last:]
    slot = [(token, last, math.log(strength)) for token in tokens]
    tags = getattr(model.template, "delimiters", None)
    if tags is not None:
        x, end_x, z, end_z, y = [(tag, last, math.log(TAG)) for tag in tags]
        before.insert(int(row.prompt[0, 0] == model.backbone.bos_id), (x[0], 0, x[2]))
        slot = [end_x, z, *slot, end_z, y]
    embeddings, places, biases = zip(*before, *slot, *after, strict=True)
    seen = torch.ones(len(places), len(places)).tril().bool()
    out = lm(
        inputs_embeds=torch.stack(embeddings)[None],
        attention_mask=additive(seen, torch.tensor(biases)),
        position_ids=torch.tensor(places)[None],
    )
    return out.logits[0, -len(after) :]


@pytest.mark.parametrize("family", LATENTS)
@pytest.mark.parametrize("strength", [1.0, 0.2])
def test_a_prefix_is_a_cache_that_the_last_prompt_token_and_the_response_see(
    architecture: str,
    family: str,
    strength: float,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    unpad: Unpad,
) -> None:
    backbone = make_backbone(architecture)
    model = make_model(backbone, "prefix", {"z": LATENTS[family]}, init_scale=1.0, strength=strength)
    batch = make_batch(backbone, prompts=(3, 1, 5), responses=(2, 4, 1))
    z = VALUES[family]
    memory = model.conditionings["z"](z)
    ours = model.decoder(batch, {"z": z}).logits(batch.response)
    for b, row in enumerate(unpad(batch)):
        expected = prefix_logits(backbone, memory, strength, row)
        torch.testing.assert_close(ours[b][batch.response_mask[b]], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", LATENTS)
@pytest.mark.parametrize("template", ["native", "tagged"])
def test_slot_tokens_stand_in_a_row_between_prompt_and_response(
    architecture: str,
    family: str,
    template: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    unpad: Unpad,
) -> None:
    backbone = make_backbone(architecture)
    if template == "tagged":
        model = make_model(backbone, "slots", {"z": LATENTS[family]}, strength=0.6)
    else:
        entry = partial(SlotTokens, length=2, strength=0.6)
        model = LatentLM(backbone, {"z": LATENTS[family]}, UniformPrior, entry)
    batch = make_batch(backbone, prompts=(3, 1, 5, 1), responses=(2, 4, 1, 3))
    batch.prompt[[0, 3], [2, 4]] = backbone.bos_id
    z = VALUES[family]
    tokens = model.conditionings["z"](z).tokens.embeddings
    ours = model.decoder(batch, {"z": z}).logits(batch.response)
    for b, row in enumerate(unpad(batch)):
        expected = slot_logits(model, tokens, 0.6, row)
        torch.testing.assert_close(ours[b][batch.response_mask[b]], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["prefix", "slots"])
@pytest.mark.parametrize("arch", ["gpt2", "llama", "opt-projected"])
@pytest.mark.parametrize("role", [None, Lora(2, alpha=2)])
def test_strength_zero_is_the_base_law_bit_for_bit(
    kind: str,
    arch: str,
    role: Lora | None,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    randomise: Randomise,
) -> None:
    backbone = make_backbone(arch)
    p0 = make_model(backbone).base(make_batch(backbone))
    adapted = make_backbone(arch, {"decoder": role} if role else None)
    model, batch = make_model(adapted, kind), make_batch(adapted)
    randomise(model)
    log_p = model.decoder(batch, ALL_Z).log_prob(batch.response)
    assert log_p.std(0).min() > 1e-3
    assert not torch.isclose(log_p, p0.log_prob(batch.response)).any()
    model.set_strength(0)
    for z in (ALL_Z["z"], torch.tensor(1)):
        off = model.decoder(batch, {"z": z})
        assert torch.equal(off.token_log_probs(batch.response), p0.token_log_probs(batch.response))
    model.set_strength(1)
    assert torch.equal(model.decoder(batch, ALL_Z).log_prob(batch.response), log_p)


@pytest.mark.parametrize("kind", ["prefix", "slots"])
@pytest.mark.parametrize("arch", ["gpt2", "llama", "opt"])
def test_strategies_start_apart(
    kind: str, arch: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone(arch)
    batch = make_batch(backbone)
    log_p = make_model(backbone, kind).decoder(batch, ALL_Z).log_prob(batch.response)
    assert log_p.std(0).min() > 1e-4
