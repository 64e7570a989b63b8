"""Adapters in PEFT's own format, which load without this package."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PrefixTuningConfig
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .backbone import BASE, Backbone
from .cache import KeyValues
from .edit import Edit, LowRank

PREFIX = "prompt_embeddings"


def write_lora(backbone: Backbone, edits: Sequence[Edit], folder: Path) -> None:
    """The low-rank changes of one row as a LoRA adapter: ``B diag(s) A`` in the place of ``B A``.

    Raises:
        ValueError: changes of something else than linear maps.
    """
    layers = _path_of_layers(backbone)
    changes: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for edit in edits:
        if not edit.target or not isinstance(edit.change, LowRank):
            raise ValueError(
                "export: the conditioning adds to hidden states, which no PEFT adapter does; conditionings that can be "
                "exported are prefix, slot, modulated_lora and lora_experts"
            )
        path, change = f"{layers}.{edit.layer}.{edit.target}", edit.change
        scale = edit.numbers[0].reshape(-1).to(change.down)
        changes.setdefault(path, []).append(((change.down * scale).T, change.up.T))  # (R, n), (n', R)
    weights, ranks = {}, {}
    for path, parts in changes.items():  # of several latents, beside each other
        down, up = zip(*parts, strict=True)
        weights[f"base_model.model.{path}.lora_A.weight"] = torch.cat(down)
        weights[f"base_model.model.{path}.lora_B.weight"] = torch.cat(up, 1)
        ranks[path] = sum(map(len, down))
    rank = max(ranks.values())
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=rank,
        rank_pattern={path: r for path, r in ranks.items() if r != rank},
        alpha_pattern={path: r for path, r in ranks.items() if r != rank},
        target_modules=sorted(ranks),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in backbone.lm.modules()),
    )
    _write(backbone, config, weights, folder)


def write_prefix(backbone: Backbone, past: KeyValues, folder: Path) -> None:
    """Keys and values of one row as a prefix, ``(1, heads, M, head_dim)`` in each layer."""
    heads, length, dim = past.keys[0].shape[-3:]
    both = [tensor for pair in zip(past.keys, past.values, strict=True) for tensor in pair]
    rows = torch.stack([tensor[0].transpose(0, 1) for tensor in both], 1)  # (M, 2 layers, heads, head_dim)
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=length,
        num_layers=backbone.num_layers,
        num_attention_heads=heads,
        token_dim=heads * dim,
        num_transformer_submodules=1,
    )
    _write(backbone, config, {PREFIX: rows.flatten(1)}, folder)


def moved(backbone: Backbone, past: KeyValues, places: int) -> KeyValues:
    """Keys as the network would have them ``places`` further on, by the rotation that tells it positions.

    Raises:
        ValueError: an LM that tells positions in another way.
    """
    if places == 0:
        return past
    lm = backbone.lm
    rotary = next((m for name, m in lm.named_modules() if name.endswith("rotary_emb")), None)
    rotate = getattr(sys.modules[type(lm).__module__], "apply_rotary_pos_emb", None)
    if rotary is None or rotate is None:
        raise ValueError(
            f"export: PEFT puts a prefix before position 0 and moves the text on by its length, and "
            f"{type(lm).__name__} does not tell positions by rotations, so that its answers would change; fit with "
            "conditioning=lora_experts or modulated_lora, which become LoRA adapters"
        )
    at = torch.full((1, past.length), places, device=backbone.device)
    try:
        cos, sin = rotary(past.keys[0], at)
    except TypeError:
        raise ValueError(
            f"export: the layers of {type(lm).__name__} differ in how they tell positions, so that a prefix cannot be "
            "moved; fit with conditioning=lora_experts or modulated_lora, which become LoRA adapters"
        ) from None
    turned = cos.shape[-1]
    keys = (
        torch.cat([rotate(*[key[..., :turned]] * 2, cos, sin)[1], key[..., turned:]], -1) for key in past.keys
    )
    return KeyValues(tuple(keys), past.values)


def read_adapter(backbone: Backbone, folder: Path) -> PeftModel:
    """The adapter on a copy of the base, as plain PEFT loads it."""
    with warnings.catch_warnings():
        # PEFT asks the network for what Transformers has given another name
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*")
        return PeftModel.from_pretrained(plain_base(backbone), str(folder)).eval()


@torch.no_grad()
def logits_of(adapted: PeftModel, ids: Tensor) -> Tensor:
    """Next-token logits ``(1, T, vocab_size)`` after each of ``ids`` ``(1, T)``."""
    with warnings.catch_warnings():
        # PEFT hands the prefix over as a cache, which the network is told not to keep
        warnings.filterwarnings("ignore", ".*past_key_values.*")
        return adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()


def plain_base(backbone: Backbone) -> PreTrainedModel:
    """A copy of the base without the adapters of its roles."""
    lm = backbone.lm
    weights = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in lm.state_dict().items()
        if ".lora_" not in name
    }
    copy = type(lm)(deepcopy(lm.config)).to(device=backbone.device)
    for parameter in copy.parameters():  # and not what tells positions, which stays in float32
        parameter.data = parameter.data.to(backbone.dtype)
    copy.load_state_dict(weights)
    return copy.eval()


def _path_of_layers(backbone: Backbone) -> str:
    layers = backbone.layers(BASE)
    return next(name for name, module in backbone.lm.named_modules() if module is layers)


def _write(backbone: Backbone, config: PeftConfig, weights: Mapping[str, Tensor], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config.inference_mode = True
    config.base_model_name_or_path = backbone.lm.name_or_path or backbone.name
    config.revision = backbone.revision
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
        folder / "adapter_model.safetensors",
    )
    config.save_pretrained(str(folder))
