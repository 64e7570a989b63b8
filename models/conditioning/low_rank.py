"""Low-rank changes of linear maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..backbone import Backbone
from .places import Layers, layers_of


def linear_maps_of(
    backbone: Backbone, layers: Layers, targets: Sequence[str], rank: int, option: str
) -> dict[tuple[int, str], tuple[int, int, float]]:
    """Inputs, outputs and spread of the weights of the linear maps that settings name, by layer and name.

    Raises:
        ValueError: a rank below 1, or layers or targets that are not there.
    """
    if rank < 1:
        raise ValueError(f"conditioning {option}: rank must be at least 1, got {rank}")
    found = {
        (layer, name): sizes
        for layer in layers_of(backbone, layers, option)
        for name, sizes in backbone.linear_maps(layer).items()
        if not targets or name.endswith(tuple(targets))
    }
    if not found:
        raise ValueError(
            f"conditioning {option}: targets={list(targets)}: no linear map of a layer has a name that ends so; there "
            f"are {', '.join(backbone.linear_maps(0))}"
        )
    return found


def low_rank(
    maps: Iterable[tuple[int, int, float]], rank: int, scale: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Random matrices ``(inputs, rank)`` and ``(rank, outputs)``, their product ``scale`` times as large as a map."""
    down = [torch.randn(inputs, rank) / inputs**0.5 for inputs, _, _ in maps]
    up = [
        scale * spread * (inputs / rank) ** 0.5 * torch.randn(rank, outputs)
        for inputs, outputs, spread in maps
    ]
    return down, up
