"""Strategies as adapters that plain PEFT loads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from stratagem.models import (
    Backbone,
    Categorical,
    KeyValuePrefix,
    LatentLM,
    Normal,
    SlotTokens,
    UniformPrior,
    collate,
    export_adapter,
)
from stratagem.models.backbone import Lora, logits_of, plain_base, read_adapter
from stratagem.models.batch import Example
from stratagem.models.export import divergence

ONE = Example((1,), (5, 6, 7, 2))
LONG = Example((1, 8, 9, 5), (5, 6, 7, 2))
PREFIXES = {"prefix": partial(KeyValuePrefix, length=2), "slot": SlotTokens}
WITHOUT_ROTATIONS = ("gpt2", "opt", "opt-projected")


def logits(model: LatentLM, z: torch.Tensor, example: Example) -> torch.Tensor:
    batch = collate([example], model.backbone.pad_id)
    assert batch.response is not None
    return model.decoder(batch, {"z": z}).logits(batch.response)[0]


def by_peft(backbone: Backbone, folder: Path, ids: tuple[int, ...]) -> torch.Tensor:
    return logits_of(read_adapter(backbone, folder), torch.tensor([ids]))[0]


@pytest.mark.parametrize("kind", ["modulated_lora", "lora_experts"])
def test_a_lora_gives_the_same_logits_on_every_architecture(
    architecture: str, kind: str, make_backbone: Callable, make_model: Callable, tmp_path: Path
) -> None:
    model = make_model(make_backbone(architecture, dtype=torch.float64), kind)
    assert export_adapter(model, 1, tmp_path) < 1e-5
    own = logits(model, torch.tensor(1), ONE)
    found = by_peft(model.backbone, tmp_path, (*ONE.prompt, *ONE.response[:-1]))
    torch.testing.assert_close(found, own.float(), atol=1e-5, rtol=1e-5)
    assert (logits(model, torch.tensor(0), ONE) - own).abs().max() > 1e-2


@pytest.mark.parametrize("example", [ONE, LONG], ids=["one token", "several"])
@pytest.mark.parametrize("kind", sorted(PREFIXES))
def test_a_prefix_gives_the_same_logits_where_positions_are_rotations(
    architecture: str,
    kind: str,
    example: Example,
    make_backbone: Callable,
    tmp_path: Path,
) -> None:
    backbone = make_backbone(architecture, dtype=torch.float64)
    model = LatentLM(backbone, {"z": Categorical(3)}, UniformPrior, PREFIXES[kind])
    prompt = None if example is ONE else "s4 s5 s1"
    if architecture in WITHOUT_ROTATIONS:
        with pytest.raises(
            ValueError, match=r"does not tell positions by rotations.*conditioning=lora_experts"
        ):
            export_adapter(model, 1, tmp_path / "none", prompt)
        assert not (tmp_path / "none").exists()
        return
    assert export_adapter(model, 1, tmp_path, prompt) < 1e-5
    found = by_peft(model.backbone, tmp_path, (example.prompt[-1], *example.response[:-1]))
    torch.testing.assert_close(found, logits(model, torch.tensor(1), example).float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["modulated_lora", "lora_experts"])
def test_several_latents_are_one_lora_beside_each_other(
    kind: str, make_backbone: Callable, make_model: Callable, tmp_path: Path
) -> None:
    latents = {"z": Categorical(3), "w": Categorical(2)}
    model = make_model(make_backbone("llama", dtype=torch.float64), kind, latents)
    assert export_adapter(model, {"z": 1, "w": 0}, tmp_path) < 1e-5
    batch = collate([ONE], model.backbone.pad_id)
    assert batch.response is not None
    own = model.decoder(batch, {"z": torch.tensor(1), "w": torch.tensor(0)}).logits(batch.response)[0]
    found = by_peft(model.backbone, tmp_path, (*ONE.prompt, *ONE.response[:-1]))
    torch.testing.assert_close(found, own.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["prefix", "lora_experts"])
def test_a_base_in_half_precision(
    kind: str, make_backbone: Callable, make_model: Callable, tmp_path: Path
) -> None:
    model = make_model(make_backbone("llama", dtype=torch.bfloat16), kind)
    plain = plain_base(model.backbone)
    assert {p.dtype for p in plain.parameters()} == {torch.bfloat16}
    assert {b.dtype for name, b in plain.named_buffers() if "inv_freq" in name} == {torch.float32}
    export_adapter(model, 1, tmp_path)


def test_a_point_of_a_continuous_latent(
    make_backbone: Callable, make_model: Callable, tmp_path: Path
) -> None:
    model = make_model(make_backbone("llama"), latents={"z": Normal(2)})
    export_adapter(model, [0.5, -1.0], tmp_path)
    own = logits(model, torch.tensor([0.5, -1.0]), ONE)
    found = by_peft(model.backbone, tmp_path, (*ONE.prompt, *ONE.response[:-1]))
    torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-4)


def test_adapters_of_other_roles_are_no_part_of_it(
    make_backbone: Callable, make_model: Callable, tmp_path: Path
) -> None:
    model = make_model(make_backbone("llama", {"router": Lora(2), "posterior": Lora(2)}), "lora_experts")
    assert export_adapter(model, 2, tmp_path) < 1e-4
    names = [name for name, _ in plain_base(model.backbone).named_parameters()]
    assert not any("lora" in name or "base_layer" in name for name in names)


def test_how_far_an_adapter_is_after_longer_prompts(
    make_backbone: Callable, make_model: Callable, tmp_path: Path
) -> None:
    """None where the prompt has one token; elsewhere the sum over the vocabulary, token by token."""
    model = make_model(make_backbone("llama", dtype=torch.float64))
    export_adapter(model, 1, tmp_path)
    batches = [collate([Example(e.prompt)], model.backbone.pad_id).without_response(1) for e in (ONE, LONG)]
    found = divergence(model, 1, tmp_path, batches)
    assert found[0] < 1e-6
    own = logits(model, torch.tensor(1), LONG)[0].log_softmax(-1)
    theirs = by_peft(model.backbone, tmp_path, LONG.prompt)[-1].double().log_softmax(-1)
    torch.testing.assert_close(found[1], (own.exp() * (own - theirs)).sum(), atol=1e-6, rtol=1e-5)
    assert found[1] > 1e-4


@pytest.mark.parametrize(
    ("kind", "z", "prompt", "named"),
    [
        ("residual", 1, None, "adds to hidden states, which no PEFT adapter does"),
        ("position_memory", 1, None, "a memory that grows with the response is no prefix"),
        ("several", 1, None, "holds no prompt, memory or soft tokens beside it"),
        ("lora_experts", 1, "s1 s2", "leave prompt= out"),
        ("slots", 1, None, "soft tokens that weigh less .* fit with template=native"),
        ("prefix", None, None, "expected one value of z, got None; pass z=VALUE"),
        ("prefix", 7, None, r"z must be in 0\.\.2, got \[7\]"),
    ],
)
def test_what_no_adapter_can_be_is_refused(
    kind: str,
    z: int | None,
    prompt: str | None,
    named: str,
    make_backbone: Callable,
    make_model: Callable,
    tmp_path: Path,
) -> None:
    model = make_model(make_backbone("llama"), kind, {"z": Categorical(3)})
    with pytest.raises(ValueError, match=named):
        export_adapter(model, z, tmp_path / "out", prompt)
    assert not (tmp_path / "out").exists()


def test_a_decoder_of_its_own_weights_or_another_strength_is_refused(
    make_backbone: Callable, make_model: Callable, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"role@roles\.decoder=frozen"):
        export_adapter(make_model(make_backbone("llama", {"decoder": Lora(2)})), 1, tmp_path)
    model = make_model(make_backbone("llama"))
    model.set_strength(0.5)
    with pytest.raises(ValueError, match=r"adapters act at strength 1, the model has \{'z': 0\.5\}"):
        export_adapter(model, 1, tmp_path)
    assert isinstance(model.conditionings["z"], KeyValuePrefix)
