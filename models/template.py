"""What stands around x, z and y."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from .backbone import Backbone
from .memory import Memory, SoftTokens


class Template(nn.Module):
    """The native prompt: nothing is added to x and y."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def around_prompt(self) -> tuple[SoftTokens, SoftTokens] | None:
        """Soft tokens before and after x; None for none."""
        return None

    def around_slot(self, memory: Memory) -> Memory:
        """The memory with its soft tokens set into the template."""
        return memory


class Tagged(Template):
    """``<bos> <x> {x} </x> <z> {z} </z> <y> {y} <eos>`` with learned delimiters.

    Delimiters are soft tokens that take no position; y ends in its own EOS. They weigh little at the start,
    so that the law begins near p0.

    Args:
        strength: weight of a delimiter in attention, whose logits gain ``log(strength)``.
    """

    NAMES = ("<x>", "</x>", "<z>", "</z>", "<y>")

    def __init__(self, backbone: Backbone, strength: float = 0.05) -> None:
        super().__init__(backbone)
        if not 0 < strength < float("inf"):
            raise ValueError(
                f"template tagged: strength must be above 0, got {strength}; template=native has no tags"
            )
        self.strength = strength
        std = backbone.embedding_scale()
        self.delimiters = nn.Parameter(std * torch.randn(len(self.NAMES), backbone.embedding_size))

    def _delimiter(self, name: str) -> SoftTokens:
        row = self.NAMES.index(name)
        bias = torch.full((1,), self.strength, device=self.delimiters.device).log()
        return SoftTokens(self.delimiters[row : row + 1], bias)

    def around_prompt(self) -> tuple[SoftTokens, SoftTokens]:
        return self._delimiter("<x>"), self._delimiter("</x>")

    def around_slot(self, memory: Memory) -> Memory:
        slot = [] if memory.tokens is None else [memory.tokens]
        tokens = SoftTokens.cat(
            [self._delimiter("<z>"), *slot, self._delimiter("</z>"), self._delimiter("<y>")]
        )
        return replace(memory, tokens=tokens)
