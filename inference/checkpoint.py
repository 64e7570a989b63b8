"""The state of a fit in one file, so that it can go on to the same numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from ..models.pretrained import load_state, read_tensors, trainable_state, write_tensors


@dataclass
class Progress:
    """Where a fit stands.

    Attributes:
        step: steps done.
        best: held-out objective of the weights that are kept; None before the first evaluation.
        stale: evaluations since then.
    """

    step: int = 0
    best: float | None = None
    stale: int = 0


def save_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer, progress: Progress
) -> None:
    """Weights, optimizer, random state and progress in one safetensors file, written atomically."""
    tensors = {f"weight/{name}": p for name, p in trainable_state(modules).items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    write_tensors(path, tensors, {"progress": json.dumps(asdict(progress))})


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer) -> Progress:
    """Put everything back as it was saved.

    Raises:
        ValueError: no readable checkpoint, or one of another model.
    """
    tensors, metadata = read_tensors(path)
    groups: dict[str, dict[str, torch.Tensor]] = {"weight": {}, "optimizer": {}, "random": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        groups[group][rest] = tensor
    load_state(modules, groups["weight"], str(path))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in groups["optimizer"].items():
        i, key = name.split("/")
        state.setdefault(int(i), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(groups["random"]["cpu"])
    if "cuda" in groups["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(groups["random"]["cuda"])
    return Progress(**json.loads(metadata["progress"]))
