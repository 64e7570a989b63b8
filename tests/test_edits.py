"""Conditionings that change hidden states: against HF forwards with hooks of their own, and by their formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Conditioning,
    CrossAttention,
    Example,
    LatentLM,
    Lora,
    LoraExperts,
    ModulatedLora,
    Normal,
    Residual,
    Several,
    TensorProduct,
    calibrate,
    collate,
)
from stratagem.models.backbone import LowRank
from stratagem.models.conditioning.cross_attention import _attend
from stratagem.models.language_model import LanguageModel, warper
from stratagem.models.text import trim
from torch import Tensor
from torch.func import functional_call

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Unpad = Callable[[Batch], list[Batch]]
Randomise = Callable[..., None]

KINDS = [
    "residual",
    "modulated_lora",
    "lora_experts",
    "tensor_product",
    "cross_attention",
    "position_memory",
    "several",
]
EDITS = KINDS[:-2]
COST = 0.1
ALL_Z = {"z": torch.arange(3)[:, None]}
kinds = pytest.mark.parametrize("kind", KINDS)


def logits_by_hand(model: LatentLM, z: Tensor, row: Batch) -> Tensor:
    """Before each token of the response, by HF on one whole text whose places from the prompt's last on are edited."""
    lm, last = model.backbone.lm, row.prompt.shape[1] - 1
    handles = []
    for edit in model.conditionings["z"](z).edits:
        layer = model.backbone.layers("base")[edit.layer]

        def after(_: Any, args: Any, output: Tensor, edit: Any = edit) -> Tensor:
            length = args[0].numel() // args[0].shape[-1]
            change = edit.change(args[0].reshape(1, length, -1), *(n[None] for n in edit.numbers))
            change[:, :last] = 0
            return output + change.reshape(output.shape)

        def before(_: Any, args: Any, kwargs: Any, edit: Any = edit) -> Any:
            hidden = args[0]
            change = edit.change(hidden, *(n[None] for n in edit.numbers))
            return (torch.cat([hidden[:, :last], hidden[:, last:] + change[:, last:]], 1), *args[1:]), kwargs

        if edit.target:
            handles.append(layer.get_submodule(edit.target).register_forward_hook(after))
        else:
            handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
    try:
        return lm(input_ids=torch.cat([row.prompt, row.response[:, :-1]], 1)).logits[0, last:]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", EDITS)
def test_what_the_response_says_of_itself_is_edited_and_the_prompt_is_not(
    architecture: str,
    kind: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    unpad: Unpad,
) -> None:
    backbone = make_backbone(architecture)
    continuous = architecture in ("gpt2", "llama")
    model = make_model(backbone, kind, {"z": Normal(2) if continuous else Categorical(3)}, strength=0.7)
    batch = make_batch(backbone, prompts=(3, 1, 5), responses=(2, 4, 1))
    z = torch.tensor([0.7, -1.2]) if continuous else torch.tensor(2)
    ours = model.decoder(batch, {"z": z}).logits(batch.response)
    base = model.base(batch).logits(batch.response)
    for b, row in enumerate(unpad(batch)):
        expected = logits_by_hand(model, z, row)
        torch.testing.assert_close(ours[b][batch.response_mask[b]], expected, atol=1e-5, rtol=1e-5)
        assert (expected - base[b][batch.response_mask[b]]).abs().max() > 1e-3


@kinds
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
    p0 = make_model(make_backbone(arch)).base(make_batch(make_backbone(arch)))
    adapted = make_backbone(arch, {"decoder": role} if role else None)
    model, batch = make_model(adapted, kind), make_batch(adapted)
    randomise(model)
    log_p = model.decoder(batch, ALL_Z).log_prob(batch.response)
    assert log_p.std(0).min() > 1e-4
    assert not torch.isclose(log_p, p0.log_prob(batch.response)).any()
    model.set_strength(0)
    off = model.decoder(batch, ALL_Z)
    assert torch.equal(off.token_log_probs(batch.response), p0.token_log_probs(batch.response))
    model.set_strength(1)
    assert torch.equal(model.decoder(batch, ALL_Z).log_prob(batch.response), log_p)


@kinds
@pytest.mark.parametrize("arch", ["gpt2", "llama-grouped", "gpt_neox"])
def test_rows_know_nothing_of_each_other(
    kind: str,
    arch: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    unpad: Unpad,
) -> None:
    """Values of z side by side, and data side by side, give what each gives alone."""
    backbone = make_backbone(arch)
    model, batch = make_model(backbone, kind), make_batch(backbone)
    together = model.decoder(batch, ALL_Z).log_prob(batch.response)
    for k in range(3):
        for b, row in enumerate(unpad(batch)):
            alone = model.decoder(row, {"z": torch.tensor([k])}).log_prob(row.response)
            torch.testing.assert_close(together[k, b], alone[0], atol=1e-5, rtol=1e-5)


@kinds
@pytest.mark.parametrize("arch", ["gpt2", "llama", "opt"])
def test_greedy_samples_are_those_of_the_parallel_pass(
    kind: str, arch: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone(arch)
    model, batch = make_model(backbone, kind), make_batch(backbone).without_response(6)
    law = model.decoder(batch, ALL_Z, warp=warper(0.0, 1.0))
    drawn = law.expand(torch.Size((3, len(batch)))).sample()
    best = model.decoder(batch, ALL_Z).logits(drawn).argmax(-1)
    mask = law.mask_of(drawn)
    assert torch.equal(drawn[mask], best[mask])


@kinds
@pytest.mark.parametrize("latent", [Categorical(2), Normal(2)])
def test_gradients_are_those_of_finite_differences(
    kind: str,
    latent: Categorical | Normal,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
) -> None:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model = make_model(backbone, kind, {"z": latent}, strength=0.5)
    batch = make_batch(backbone, prompts=(2, 1), responses=(2, 3))
    z = torch.tensor([1, 0]) if isinstance(latent, Categorical) else torch.randn(2, 2, dtype=torch.float64)
    conditioning = model.conditionings["z"]
    weights = {n: w for n, w in conditioning.named_parameters() if "backbone." not in n}

    def log_prob(*values: Tensor) -> Tensor:
        memory = functional_call(conditioning, dict(zip(weights, values, strict=True)), (z,))
        law = LanguageModel(backbone, model.encode(batch), memory, batch.max_length, batch.response_mask)
        return law.log_prob(batch.response)

    values = [w.detach().clone().requires_grad_() for w in weights.values()]
    assert torch.autograd.gradcheck(log_prob, values, fast_mode=True)


@pytest.mark.parametrize("kind", EDITS)
def test_every_strategy_is_brought_to_its_cost(
    kind: str, make_backbone: MakeBackbone, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama")
    torch.manual_seed(0)
    model = make_model(backbone, kind)
    prompts = collate([Example((3, 4)) for _ in range(256)], backbone.pad_id).without_response(6)
    drawn = [trim(backbone, row) for row in model.base(prompts).sample().tolist()]
    batch = collate([Example((3, 4), row) for row in drawn], backbone.pad_id)
    calibrate(model, batch, COST)
    with torch.no_grad():
        gap = model.base(batch).log_prob(batch.response) - model.decoder(batch, ALL_Z).log_prob(
            batch.response
        )
    torch.testing.assert_close(gap.mean(1), torch.full((3,), COST), atol=0.02, rtol=0.0)


def test_several_are_scaled_and_switched_together(make_backbone: MakeBackbone, make_model: MakeModel) -> None:
    both = make_model(make_backbone("llama"), "several").conditionings["z"]
    before = {name: part.weight.detach().clone() for name, part in both.parts.items()}
    both.rescale(torch.tensor([1.0, 2.0, 3.0]))
    both.strength = 0.5
    for name, part in both.parts.items():
        torch.testing.assert_close(part.weight, before[name] * torch.tensor([1.0, 2.0, 3.0])[:, None])
        assert part.strength == 0.5


def test_formulas() -> None:
    """Each change of a row, by the formula of its docstring."""
    torch.manual_seed(0)
    h = torch.randn(1, 4, 5)
    down, up, g = torch.randn(5, 2), torch.randn(2, 6), torch.randn(1, 2)
    torch.testing.assert_close(LowRank(down, up)(h, g)[0, 3], up.T @ (g[0] * (down.T @ h[0, 3])))
    query, keys, values = torch.randn(5, 3), torch.randn(1, 2 * 3), torch.randn(1, 2 * 5)
    weight = (keys.reshape(2, 3) @ (query.T @ h[0, 1]) / 3**0.5).softmax(0)
    torch.testing.assert_close(_attend(query, 2, h, keys, values)[0, 1], weight @ values.reshape(2, 5))


def test_experts_share_nothing(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama")
    model, batch = make_model(backbone, "lora_experts"), make_batch(backbone)
    model.decoder(batch, {"z": torch.tensor(1)}).log_prob(batch.response).sum().backward()
    for up in model.conditionings["z"].up:
        assert up.grad[1].abs().max() > 0
        assert up.grad[[0, 2]].eq(0).all()


REFUSED: dict[str, tuple[Callable[[Backbone], Conditioning], str]] = {
    "layers": (
        lambda b: Residual(b, Normal(2), layers="last"),
        "layers=last: expected all, middle, first, or",
    ),
    "a layer": (lambda b: Residual(b, Normal(2), layers=[2]), r"layers=\[2\]: .* from 0 to 1"),
    "twice": (lambda b: TensorProduct(b, Normal(2), layers=[1, 1]), r"tensor_product: layers=\[1, 1\]"),
    "rank": (lambda b: ModulatedLora(b, Normal(2), rank=0), "modulated_lora: rank must be at least 1, got 0"),
    "rank of a product": (
        lambda b: TensorProduct(b, Normal(2), rank=0),
        "tensor_product: rank must be at least 1",
    ),
    "targets": (
        lambda b: LoraExperts(b, Categorical(2), targets=["query"]),
        r"targets=\['query'\]: no linear map .* there are self_attn\.q_proj",
    ),
    "length": (
        lambda b: CrossAttention(b, Normal(2), length=0),
        "length and width must be at least 1, got 0 and 16",
    ),
    "nothing": (lambda b: Several(b, Normal(2), {}), "several: expected parts by name, got none"),
    "strength": (
        lambda b: Residual(b, Normal(2), strength=-1),
        "strength must be finite and not negative, got -1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case: str, make_backbone: MakeBackbone) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make(make_backbone("llama"))


def test_chosen_layers_and_maps_alone_are_edited(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone("llama")
    for layers, found in (("all", [0, 1]), ("middle", [1]), ("first", [0]), ([1], [1])):
        edits = Residual(backbone, Normal(2), layers=layers)(torch.zeros(2)).edits
        assert [edit.layer for edit in edits] == found
    lora = partial(ModulatedLora, layers="first", targets=["q_proj", "v_proj"])
    edits = lora(backbone, Normal(2))(torch.zeros(2)).edits
    assert [edit.target for edit in edits] == ["self_attn.q_proj", "self_attn.v_proj"]
