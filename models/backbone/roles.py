"""How much of the backbone a role may change: nothing, low-rank adapters, or a copy of its own."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


class Role(ABC):
    """One user of the backbone (router, decoder or posterior) and what it may train there."""

    @abstractmethod
    def attach(self, name: str, base: PreTrainedModel) -> PreTrainedModel:
        """The network that the role runs: ``base`` itself, with an adapter added to it, or a copy."""


class Frozen(Role):
    """The base as it is; only the role's head trains."""

    def attach(self, name: str, base: PreTrainedModel) -> PreTrainedModel:  # noqa: ARG002
        return base


class Lora(Role):
    """Low-rank adapters beside the frozen base weights [Hu et al. 2022].

    Args:
        rank: rank of each adapter, at least 1.
        alpha: scale; an adapter's output is multiplied by ``alpha / rank``.
        targets: module names to adapt, or ``all-linear``.
    """

    def __init__(
        self, rank: int = 8, alpha: float = 16.0, targets: str | Sequence[str] = "all-linear"
    ) -> None:
        if rank < 1:
            raise ValueError(f"role lora: rank must be at least 1, got {rank}")
        self.rank, self.alpha = rank, alpha
        self.targets = targets if isinstance(targets, str) else list(targets)

    def attach(self, name: str, base: PreTrainedModel) -> PreTrainedModel:
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=self.targets,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.modules()),
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            # Several adapters on one base are what is meant here.
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
            adapted = inject_adapter_in_model(config, base, adapter_name=name)
        for path, parameter in adapted.named_parameters():
            if ".lora_" in path:  # small steps are lost in half precision
                parameter.data = parameter.data.float()
        return adapted


class Full(Role):
    """A trainable copy of the whole base."""

    def attach(self, name: str, base: PreTrainedModel) -> PreTrainedModel:  # noqa: ARG002
        if base.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"role full: weights in {base.dtype} lose small steps; load the base with dtype=float32, and set "
                "fit.mixed_precision=bf16 for speed, or use role lora"
            )
        copy = deepcopy(base)
        copy.requires_grad_(True)
        return copy


def adapted_layers(base: nn.Module) -> list[BaseTunerLayer]:
    """The layers of ``base`` that have adapters."""
    return [layer for layer in base.modules() if isinstance(layer, BaseTunerLayer)]


def activate_adapter(layers: Sequence[BaseTunerLayer], name: str | None, trainable: Sequence[str]) -> None:
    """Make ``name`` the only active adapter of ``layers`` (none for the base law).

    ``trainable`` lists the adapters whose weights stay trainable: switching freezes all but the active one. A layer
    that is as it should be is left alone, since switching touches every weight and each step of a decoder asks for it.
    """
    for layer in layers:
        if _is_active(layer, name):
            continue
        if name is None:
            layer.enable_adapters(False)
        else:
            layer.enable_adapters(True)
            layer.set_adapter([name])
        layer.set_requires_grad(list(trainable), True)


def _is_active(layer: BaseTunerLayer, name: str | None) -> bool:
    if name is None:
        return layer.disable_adapters
    return not layer.disable_adapters and layer.active_adapters == [name]
