"""A memory read position by position beside a short history: one parallel pass is what goes token by token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    KeyValuePrefix,
    LatentLM,
    Normal,
    PositionMemory,
    UniformPrior,
)
from stratagem.models.conditioning import LinearConditioning
from torch import Tensor
from transformers import DynamicCache

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
Unpad = Callable[[Batch], list[Batch]]


def model_of(backbone: Backbone, length: int, window: int) -> LatentLM:
    entry = partial(PositionMemory, length=length, window=window)
    model = LatentLM(backbone, {"z": Normal(2)}, UniformPrior, entry)
    return model.double() if backbone.dtype == torch.float64 else model


def logits_at(model: LatentLM, z: Tensor, row: Batch, place: int) -> Tensor:
    """With a history of one token: HF on the prompt and that token, behind a cache with the keys that it may see."""
    backbone, last = model.backbone, row.prompt.shape[1] - 1
    memory = model.conditionings["z"](z).key_values
    extra = memory.length
    tokens = row.response[:, place - 1 : place] if place else row.response[:, :0]
    ids = torch.cat([row.prompt, tokens], 1)
    length = ids.shape[1]
    past = DynamicCache(
        [(k[None], v[None]) for k, v in zip(memory.keys, memory.values, strict=True)],
        config=backbone.lm.config,
    )
    to_memory = torch.zeros(length, extra, dtype=torch.bool)
    to_memory[last, :1] = True
    to_memory[-1, : place + 1] = True
    seen = torch.cat([to_memory, torch.ones(length, length).tril().bool()], 1)
    least = torch.finfo(backbone.dtype).min
    mask = torch.where(seen, 0.0, least).to(backbone.dtype)[None, None]
    places = torch.tensor([[*range(last + 1), *([last + place] if place else [])]])
    out = backbone.lm(input_ids=ids, past_key_values=past, attention_mask=mask, position_ids=places)
    return out.logits[0, -1]


@pytest.mark.parametrize("length", [2, 6])
def test_with_a_history_of_one_each_token_stands_alone(
    architecture: str, length: int, make_backbone: MakeBackbone, make_batch: MakeBatch, unpad: Unpad
) -> None:
    backbone = make_backbone(architecture)
    model = model_of(backbone, length, 1)
    batch = make_batch(backbone, prompts=(3, 1, 5), responses=(2, 5, 1))
    z = torch.tensor([0.7, -1.2])
    ours = model.decoder(batch, {"z": z}).logits(batch.response)
    for b, row in enumerate(unpad(batch)):
        for place in range(row.response.shape[1]):
            expected = logits_at(model, z, row, place)
            torch.testing.assert_close(ours[b, place], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_tokens_out_of_the_window_do_not_matter(
    window: int, make_backbone: MakeBackbone, make_batch: MakeBatch
) -> None:
    """Through L layers a token reaches as far as L (w - 1) tokens back, and no farther."""
    backbone = make_backbone("llama", dtype=torch.float64)
    model = model_of(backbone, 8, window)
    batch = make_batch(backbone, prompts=(2,), responses=(7,))
    z = {"z": torch.zeros(1, 2, dtype=torch.float64)}
    logits = model.decoder(batch, z).logits(batch.response)[0]
    changed = batch.response.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 5 + 3
    moved = (model.decoder(batch, z).logits(changed)[0] - logits).abs().amax(-1) > 1e-12
    reach = backbone.num_layers * (window - 1)
    assert moved.tolist() == [1 <= place <= 1 + reach for place in range(7)]


def test_a_map_of_low_rank_has_fewer_parameters(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone("llama")
    full, low = (KeyValuePrefix(backbone, Normal(8), length=16, rank=rank) for rank in (None, 2))

    def size(conditioning: LinearConditioning) -> int:
        own = (w for n, w in conditioning.named_parameters() if "backbone." not in n)
        return sum(w.numel() for w in own)

    numbers = 16 * 2 * 2 * 16  # length, keys and values, layers, width
    assert size(full) == (8 + 1) * numbers
    assert size(low) == 8 * 2 + (2 + 1) * numbers
    z = torch.randn(1000, 8)
    assert torch.linalg.matrix_rank(torch.cat([k.flatten(1) for k in low(z).key_values.keys], 1)) == 2
    for mine, theirs in zip(low(z).key_values.values, full(z).key_values.values, strict=True):
        assert 0.5 < mine.std() / theirs.std() < 2


def test_what_cannot_be_is_refused(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone("llama")
    with pytest.raises(ValueError, match="position_memory: window must be at least 1, got 0"):
        PositionMemory(backbone, Categorical(2), window=0)
    with pytest.raises(ValueError, match="conditioning: rank must be at least 1, got 0"):
        KeyValuePrefix(backbone, Categorical(2), rank=0)
