"""Bases from folders: the law that was saved, or an error that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from stratagem.models import Backbone, Batch, LanguageModel, encode_prompt, load_backbone
from stratagem.models.backbone import base_path
from stratagem.models.backbone.scratch import symbol_tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertModel, PreTrainedTokenizerFast

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]


def log_probs(backbone: Backbone, batch: Batch) -> Tensor:
    prompt = encode_prompt(backbone, "base", batch.prompt, batch.prompt_mask)
    law = LanguageModel(backbone, prompt, mask=batch.response_mask, max_length=batch.max_length)
    return law.log_prob(batch.response)


@pytest.fixture
def folder(tmp_path: Path, make_backbone: MakeBackbone) -> Path:
    """A saved llama with its tokenizer."""
    backbone = make_backbone("llama")
    backbone.lm.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_saved_base_keeps_its_law(
    architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch, tmp_path: Path
) -> None:
    made = make_backbone(architecture)
    made.lm.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    loaded, batch = load_backbone(str(tmp_path)), make_batch(made)
    assert torch.equal(log_probs(loaded, batch), log_probs(made, batch))
    assert loaded.fingerprint == made.fingerprint
    assert loaded.name == str(tmp_path)
    assert (loaded.eos_ids, loaded.pad_id, loaded.bos_id) == (made.eos_ids, made.pad_id, made.bos_id)


def test_the_dtype_is_that_asked_for(folder: Path, make_backbone: MakeBackbone) -> None:
    loaded = load_backbone(str(folder), dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16
    expected = make_backbone("llama", dtype=torch.bfloat16)
    for ours, theirs in zip(loaded.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (
            "gpt_neo",
            {
                "hidden_size": 8,
                "num_layers": 2,
                "num_heads": 2,
                "attention_types": [[["global", "local"], 1]],
            },
        ),
        ("bloom", {"hidden_size": 16, "n_layer": 2, "n_head": 2}),
        ("falcon", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True}),
    ],
)
def test_attention_that_goes_by_places_in_memory_is_refused(kind: str, settings: dict[str, Any]) -> None:
    lm = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=11, **settings))
    with pytest.raises(ValueError, match="attends by places in memory, so that padding or a memory"):
        Backbone(lm, symbol_tokenizer(["a"], 16))


def test_another_base_has_another_fingerprint(make_backbone: MakeBackbone) -> None:
    made = make_backbone("llama").fingerprint
    assert made == make_backbone("llama", dtype=torch.bfloat16).fingerprint
    assert made != make_backbone("llama", seed=1).fingerprint
    assert made != make_backbone("mistral").fingerprint


def refuse(name: str | Path, message: str, **settings: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_backbone(str(name), **settings)
    assert str(caught.value).startswith((f"lm={name}", f"backbone {name}"))


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "the folder has no config.json; expected a model in Hugging Face format")


def test_an_encoder_is_refused(folder: Path) -> None:
    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=11
    )
    BertModel(config).save_pretrained(folder)
    refuse(folder, "BertModel is no causal LM")


def test_weights_outside_safetensors_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    refuse(folder, "safetensors")


def test_missing_weights_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    refuse(folder, r"lacks weights of the model: .*layers\.1\.mlp\.up_proj")


def test_a_tokenizer_without_an_end_token_is_refused(folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    assert "eos_token" not in json.loads((folder / "tokenizer_config.json").read_text())
    refuse(folder, "no EOS token, so that a response would have no end")


def test_an_unknown_dtype_is_refused(folder: Path) -> None:
    refuse(folder, "dtype must be one of float32, bfloat16, float16, got int8", dtype="int8")


def test_an_unknown_bundled_name_is_refused_with_those_that_there_are() -> None:
    refuse("bundled:nothing", "no such bundled model; there are .*bundled:")


def test_every_bundled_base_loads() -> None:
    shelf = Path(base_path("bundled:strategies")).parent
    names = [entry.name for entry in shelf.iterdir() if (entry / "config.json").is_file()]
    assert "strategies" in names
    for name in names:
        assert load_backbone(f"bundled:{name}").name == f"bundled:{name}"


def test_an_unknown_way_from_hidden_states_to_logits_is_refused(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone("llama")
    backbone.lm.register_forward_hook(lambda _m, _i, out: out | {"logits": 2 * out.logits})
    with pytest.raises(ValueError, match="logits from its last hidden state in a way that is not known"):
        Backbone(backbone.lm, backbone.tokenizer, name="doubled")
