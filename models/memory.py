"""What a latent adds to the decoder's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import KeyValues


@dataclass(frozen=True)
class SoftTokens:
    """Input embeddings that stand for no word and take no position.

    Attributes:
        embeddings: ``(*batch, n, embedding_size)``.
        bias: ``(n,)``, what their attention logits gain as keys: ``log`` of their strength.
    """

    embeddings: Tensor
    bias: Tensor

    @staticmethod
    def cat(parts: Sequence[SoftTokens]) -> SoftTokens:
        """In a row; the batch shapes broadcast."""
        shape = torch.broadcast_shapes(*(p.embeddings.shape[:-2] for p in parts))
        rows = [p.embeddings.expand(*shape, *p.embeddings.shape[-2:]) for p in parts]
        return SoftTokens(torch.cat(rows, -2), torch.cat([p.bias for p in parts]))


@dataclass(frozen=True)
class Memory:
    """Context that only the response sees: keys and values at every layer, and soft tokens before the response.

    Attributes:
        key_values: of any batch shape on the left; None for none.
        bias: ``(M,)``, what the attention logits of ``key_values`` gain; None with it.
        tokens: soft tokens; None for none.
    """

    key_values: KeyValues | None = None
    bias: Tensor | None = None
    tokens: SoftTokens | None = None

    @property
    def batch_shape(self) -> torch.Size:
        shapes = [] if self.key_values is None else [self.key_values.batch_shape]
        if self.tokens is not None:
            shapes.append(self.tokens.embeddings.shape[:-2])
        return torch.broadcast_shapes(*shapes) if shapes else torch.Size()

    def __bool__(self) -> bool:
        return self.key_values is not None or self.tokens is not None

    @staticmethod
    def cat(parts: Sequence[Memory]) -> Memory:
        """One memory of several."""
        cached = [(p.key_values, p.bias) for p in parts if p.key_values is not None and p.bias is not None]
        tokens = [p.tokens for p in parts if p.tokens is not None]
        return Memory(
            KeyValues.cat([kv for kv, _ in cached]) if cached else None,
            torch.cat([bias for _, bias in cached]) if cached else None,
            SoftTokens.cat(tokens) if tokens else None,
        )
