"""The LM as a distribution: its log-probabilities against plain HF forwards, and what counts as a token."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from stratagem.models import Backbone, Batch, Full, LanguageModel, LatentLM, Lora, encode_prompt
from stratagem.models.backbone import Role, frozen_head
from torch import Tensor

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Unpad = Callable[[Batch], list[Batch]]

ALL_Z = {"z": torch.arange(3)[:, None]}


def plain_log_probs(backbone: Backbone, row: Batch) -> Tensor:
    """Of each token of the response of an unpadded row, from one HF forward."""
    ids = torch.cat([row.prompt, row.response], 1)
    with torch.no_grad():
        log_p = backbone.lm(input_ids=ids).logits[0].float().log_softmax(-1)
    first = row.prompt.shape[1]
    return log_p[first - 1 : -1].gather(-1, row.response[0, :, None])[:, 0]


def base_law(backbone: Backbone, batch: Batch, masked: bool = True) -> LanguageModel:
    prompt = encode_prompt(backbone, "base", batch.prompt, batch.prompt_mask)
    return LanguageModel(backbone, prompt, None, batch.max_length, batch.response_mask if masked else None)


def test_token_log_probs_are_those_of_a_plain_forward(
    architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch, unpad: Unpad
) -> None:
    backbone = make_backbone(architecture, vocab=13)
    batch = make_batch(backbone, prompts=(4, 1, 6, 2), responses=(3, 5, 1, 4), cut=(1, 2))
    together = base_law(backbone, batch).token_log_probs(batch.response)
    assert (together[~batch.response_mask] == 0).all()
    for b, row in enumerate(unpad(batch)):
        expected = plain_log_probs(backbone, row)
        alone = base_law(backbone, row).token_log_probs(row.response)[0]
        torch.testing.assert_close(together[b][batch.response_mask[b]], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)


def test_bfloat16_is_near_float32_and_padding_costs_no_accuracy(
    architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch, unpad: Unpad
) -> None:
    exact, rounded = make_backbone(architecture), make_backbone(architecture, dtype=torch.bfloat16)
    batch = make_batch(exact, prompts=(4, 1, 6), responses=(3, 5, 2), cut=(1,))
    log_p = base_law(rounded, batch).token_log_probs(batch.response)
    expected = base_law(exact, batch).token_log_probs(batch.response)
    torch.testing.assert_close(log_p, expected, atol=0.1, rtol=0.05)
    for b, row in enumerate(unpad(batch)):
        alone = base_law(rounded, row).token_log_probs(row.response)[0]
        torch.testing.assert_close(log_p[b][batch.response_mask[b]], alone, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("kind", [None, "prefix", "slots"])
@pytest.mark.parametrize("ends", [[2], [2, 3]])
def test_probabilities_of_all_sequences_sum_to_one(
    kind: str | None,
    ends: list[int],
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
) -> None:
    backbone = make_backbone("llama-grouped", dtype=torch.float64, vocab=4)
    backbone.lm.generation_config.eos_token_id = ends
    batch = replace(make_batch(backbone, prompts=(2, 1), responses=()), max_length=3)
    law = make_model(backbone, kind).decoder(batch, ALL_Z) if kind else base_law(backbone, batch)
    whole = itertools.product(range(backbone.vocab_size), repeat=3)
    cuts = (next((i + 1 for i, token in enumerate(y) if token in ends), 3) for y in whole)
    whole = itertools.product(range(backbone.vocab_size), repeat=3)
    values = torch.tensor(sorted({y[:cut] + (0,) * (3 - cut) for y, cut in zip(whole, cuts, strict=True)}))
    log_p = law.log_prob(values.reshape(-1, *(1,) * len(law.batch_shape), 3))  # (N, *batch)
    assert log_p.shape == (len(values), *law.batch_shape)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones_like(log_p[0]), atol=1e-10, rtol=0)


def test_tokens_after_the_first_end_token_do_not_matter(
    make_backbone: MakeBackbone, make_batch: MakeBatch
) -> None:
    backbone = make_backbone("llama")
    batch = make_batch(backbone, responses=(2, 4, 3))
    law = base_law(backbone, batch, masked=False)
    noise = torch.randint(backbone.vocab_size, batch.response.shape)
    changed = torch.where(batch.response_mask, batch.response, noise)
    assert (changed != batch.response).any()
    assert torch.equal(law.log_prob(changed), law.log_prob(batch.response))
    torch.testing.assert_close(law.log_prob(changed), base_law(backbone, batch).log_prob(batch.response))
    ended = batch.response.clone()
    ended[1, 0] = backbone.eos_ids[0]
    assert law.log_prob(ended)[1] == law.token_log_probs(ended)[1, 0]


def test_a_mask_counts_a_cut_response_without_its_padding(
    make_backbone: MakeBackbone, make_batch: MakeBatch, unpad: Unpad
) -> None:
    backbone = make_backbone("gpt2")
    batch = make_batch(backbone, responses=(2, 4, 3), cut=(0, 2))
    expected = torch.stack([plain_log_probs(backbone, row).sum() for row in unpad(batch)])
    torch.testing.assert_close(
        base_law(backbone, batch).log_prob(batch.response), expected, atol=1e-5, rtol=0
    )
    unmasked = base_law(backbone, batch, masked=False).log_prob(batch.response)
    assert (unmasked < expected - 0.1)[[0, 2]].all()


@pytest.mark.parametrize(
    ("arch", "role", "capped"),
    [
        ("llama", None, False),
        ("phi", None, False),
        ("gpt2", Lora(2), False),
        ("llama", Full(), False),
        ("llama", None, True),
    ],
    ids=["frozen", "with a bias", "adapted", "trained", "capped"],
)
def test_chunks_of_the_vocabulary_change_neither_values_nor_gradients(
    arch: str,
    role: Role | None,
    capped: bool,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = make_backbone(arch, {"decoder": role} if role else None, dtype=torch.float64)
    if capped:
        backbone.lm.config.final_logit_softcapping = 2.0
    model, batch = make_model(backbone), make_batch(backbone)
    weights = [w for w in model.parameters() if w.requires_grad]

    def value_and_gradients() -> list[Tensor]:
        log_p = model.decoder(batch, ALL_Z).log_prob(batch.response)
        found = torch.autograd.grad(log_p.square().sum(), weights, allow_unused=True)
        return [log_p.detach(), *(g for g in found if g is not None)]

    whole = value_and_gradients()
    chunks: list[int] = []
    for place, name in ((backbone, "logits"), (frozen_head, "linear")):
        made = getattr(place, name)
        monkeypatch.setattr(place, name, partial(_counted, made, chunks))
    monkeypatch.setattr("stratagem.models.backbone.backbone._LOGITS_BUDGET", 2 * backbone.vocab_size)
    torch.testing.assert_close(value_and_gradients(), whole, atol=1e-12, rtol=1e-10)
    assert max(chunks) == 2
    with torch.no_grad():
        torch.testing.assert_close(model.decoder(batch, ALL_Z).log_prob(batch.response), whole[0])


def _counted(made: Callable[..., Tensor], chunks: list[int], *args: Any) -> Tensor:
    out = made(*args)
    chunks.append(len(out))
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_head_in_the_precision_of_its_weights(dtype: torch.dtype) -> None:
    """As near to the law of the rounded weights as logits of that precision, value and gradient."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 16, dtype=dtype), torch.randn(50, 16, dtype=dtype)
    tokens, pull = torch.randint(50, (7,)), torch.randn(7, dtype=torch.float64)

    def plain(h: Tensor, w: Tensor) -> Tensor:
        log_p = (h @ w.T).to(torch.promote_types(h.dtype, torch.float32)).log_softmax(-1)
        return log_p.gather(-1, tokens[:, None])[:, 0]

    def both(value: Tensor, h: Tensor) -> list[Tensor]:
        return [value.detach().double(), torch.autograd.grad((value * pull).sum(), h)[0].double()]

    h = hidden.clone().requires_grad_()
    found = both(frozen_head.FrozenHead.apply(h, tokens, weight, None, 3), h)
    rounded = both(plain(h, weight), h)
    exact = hidden.double().requires_grad_()
    for mine, theirs, true in zip(found, rounded, both(plain(exact, weight.double()), exact), strict=True):
        assert (mine - true).abs().max() <= 2 * (theirs - true).abs().max() + 1e-6


def test_a_frozen_head_has_a_second_derivative() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    tokens = torch.randint(6, (5,))

    def value(h: Tensor) -> Tensor:
        return frozen_head.FrozenHead.apply(h, tokens, weight, bias, 2)

    assert torch.autograd.gradcheck(value, hidden)
    assert torch.autograd.gradgradcheck(value, hidden)


@pytest.mark.parametrize("shape", [(2, 4), (4, 3, 4), (3, 0), ()])
def test_a_value_that_does_not_fit_is_refused_with_its_shape(
    shape: tuple[int, ...], make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("gpt2")
    law = make_model(backbone).decoder(make_batch(backbone), ALL_Z)
    with pytest.raises(ValueError, match=r"LanguageModel: .*shape \(" + ", ".join(map(str, shape))):
        law.log_prob(torch.zeros(shape, dtype=torch.long))


def test_a_value_of_another_length_than_its_mask_is_refused(
    make_backbone: MakeBackbone, make_batch: MakeBatch
) -> None:
    backbone = make_backbone("gpt2")
    batch = make_batch(backbone)
    with pytest.raises(ValueError, match=r"shape \(3, 3\) does not fit the mask .* shape \(3, 4\)"):
        base_law(backbone, batch).log_prob(batch.response[:, :-1])


def test_rows_that_fit_the_context_may_stand_in_one_batch_that_does_not(
    architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch, unpad: Unpad
) -> None:
    """The longest prompt with the longest response would pass the context; no row does."""
    backbone = make_backbone(architecture)
    half = backbone.context // 2
    batch = make_batch(backbone, prompts=(backbone.context - 2, half - 6), responses=(2, half))
    together = base_law(backbone, batch).log_prob(batch.response)
    alone = torch.cat([base_law(backbone, row).log_prob(row.response) for row in unpad(batch)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    drawn = base_law(backbone, batch, masked=False).sample()
    assert drawn.shape == (2, 2), "two tokens are left after the longest prompt"


def test_what_passes_the_context_is_refused(make_backbone: MakeBackbone, make_batch: MakeBatch) -> None:
    backbone = make_backbone("llama")
    long = make_batch(backbone, prompts=(backbone.context - 2, 3), responses=(3, 3))
    with pytest.raises(ValueError, match=f"{backbone.context + 1} tokens together, more than the context"):
        base_law(backbone, long).log_prob(long.response)
    full = make_batch(backbone, prompts=(backbone.context, 3), responses=(1, 1))
    with pytest.raises(ValueError, match="leaves no room for a response in the context"):
        base_law(backbone, full)
