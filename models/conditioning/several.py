"""Several ways at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..latents import Latent
from ..memory import Memory
from .conditioning import Conditioning


class Several(Conditioning):
    """z enters in each of several ways: a memory and a vector added to the embeddings, say [Li et al. 2020].

    Args:
        parts: what makes each, by a name of one's own.
        strength: of all, each then having its own share of it; 0 is p0.

    Raises:
        ValueError: no part.
    """

    def __init__(
        self,
        backbone: Backbone,
        latent: Latent,
        parts: Mapping[str, Callable[[Backbone, Latent], Conditioning]],
        strength: float = 1.0,
    ) -> None:
        if not parts:
            raise ValueError("conditioning several: expected parts by name, got none")
        super().__init__(backbone, latent, 1.0)
        self.parts = nn.ModuleDict({name: make(backbone, latent) for name, make in parts.items()})
        self._own = {
            name: part.strength for name, part in self.parts.items() if isinstance(part, Conditioning)
        }
        self.strength = strength

    @property
    def strength(self) -> float:
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        Conditioning.strength.fset(self, value)  # type: ignore[attr-defined]
        for name, own in getattr(self, "_own", {}).items():
            part = self.parts[name]
            assert isinstance(part, Conditioning)
            part.strength = value * own

    @torch.no_grad()
    def rescale(self, factor: Tensor) -> None:
        for part in self.parts.values():
            assert isinstance(part, Conditioning)
            part.rescale(factor)

    def memory(self, features: Tensor) -> Memory:
        return Memory.cat([part.memory(features) for part in self.parts.values()])  # type: ignore[operator]
