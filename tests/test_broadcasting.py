"""Enumerated values, particles and expansions of the LM, each against its slices one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from stratagem.models import Backbone, Batch, Categorical, LanguageModel, LatentLM

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]

K, B, S = 3, 3, 2


def unmasked(law: LanguageModel) -> LanguageModel:
    """The same law for values that end at their first end token."""
    return LanguageModel(law.backbone, law.prompt, law.memory, law.event_shape[0])


@pytest.mark.parametrize("kind", ["prefix", "slots"])
@pytest.mark.parametrize("arch", ["gpt2", "qwen2-grouped", "opt-projected"])
@pytest.mark.parametrize("shape", [(K, 1), (S, B), (), (S, 1, B)])
def test_a_memory_of_any_batch_shape_is_its_values_one_by_one(
    kind: str,
    arch: str,
    shape: tuple[int, ...],
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    unpad: Callable[[Batch], list[Batch]],
) -> None:
    backbone = make_backbone(arch)
    model, batch = make_model(backbone, kind), make_batch(backbone, cut=(1,))
    z = torch.randint(K, shape)
    law = model.decoder(batch, {"z": z})
    log_p = law.log_prob(batch.response)
    assert log_p.shape == law.batch_shape == torch.broadcast_shapes(shape, (B,))
    singles = unpad(batch)
    for place in itertools.product(*map(range, log_p.shape)):
        row, value = singles[place[-1]], z.expand(log_p.shape)[place]
        expected = model.decoder(row, {"z": value}).log_prob(row.response)[0]
        torch.testing.assert_close(log_p[place], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["prefix", "slots"])
def test_two_enumerated_latents_span_the_table_of_their_values(
    kind: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama")
    model = make_model(backbone, kind, {"a": Categorical(K), "b": Categorical(4)})
    batch = make_batch(backbone)
    grid = {"a": torch.arange(K)[:, None], "b": torch.arange(4)[:, None, None]}
    table = model.decoder(batch, grid).log_prob(batch.response)
    assert table.shape == (4, K, B)
    for b, a in itertools.product(range(4), range(K)):
        one = model.decoder(batch, {"a": torch.tensor(a), "b": torch.tensor(b)}).log_prob(batch.response)
        torch.testing.assert_close(table[b, a], one, atol=1e-5, rtol=0)
    assert table.std(0).min() > 1e-3
    assert table.std(1).min() > 1e-3


def test_values_with_further_dimensions_broadcast_on_the_left(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("gpt2")
    batch = make_batch(backbone)
    law = unmasked(make_model(backbone).decoder(batch, {"z": torch.arange(K)[:, None]}))
    values = torch.randint(backbone.vocab_size, (5, 1, B, 4))
    log_p = law.log_prob(values)
    assert log_p.shape == (5, K, B)
    for s in range(5):
        torch.testing.assert_close(log_p[s], law.log_prob(values[s, 0]), atol=1e-5, rtol=0)


def test_an_expansion_repeats_the_law(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("gpt2")
    batch = make_batch(backbone, cut=(0, 2))
    law = make_model(backbone).decoder(batch, {"z": torch.arange(K)[:, None]})
    wide = law.expand(torch.Size((S, K, B)))
    assert wide.batch_shape == (S, K, B)
    assert wide.event_shape == law.event_shape
    torch.testing.assert_close(wide.log_prob(batch.response), law.log_prob(batch.response).expand(S, K, B))
    assert wide.sample().shape == (S, K, B, 4)
    assert wide.sample((6,)).shape == (6, S, K, B, 4)


@pytest.mark.parametrize("kind", ["prefix", "slots"])
def test_logits_are_those_of_the_log_probabilities(
    kind: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("phi")
    batch = make_batch(backbone)
    law = make_model(backbone, kind).decoder(batch, {"z": torch.arange(K)[:, None]})
    logits = law.logits(batch.response)
    assert logits.shape == (K, B, 4, backbone.vocab_size)
    picked = logits.log_softmax(-1).gather(-1, batch.response.expand(K, -1, -1)[..., None])[..., 0]
    expected = picked.masked_fill(~batch.response_mask, 0)
    torch.testing.assert_close(law.token_log_probs(batch.response), expected, atol=1e-5, rtol=0)
