"""What a latent adds to the decoder's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import Edit, KeyValues


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
    """What only the response sees: keys and values at every layer, soft tokens before it, edits of its hidden states,
    and vectors that are added to its embeddings.

    The response is read from the prompt's last token on, which is place 0.

    Attributes:
        key_values: of any batch shape on the left; None for none.
        bias: ``(M,)``, what the attention logits of ``key_values`` gain; None with it.
        tokens: soft tokens; None for none.
        edits: of the response's rows.
        places: ``(M,)``, from which place on each of ``key_values`` is seen; 0 for all where not given.
        window: how many of the response's own tokens a token sees, itself included; all where not given.
        added: ``(*batch, P, embedding_size)``, to the embeddings of the first P places; None for nothing.
    """

    key_values: KeyValues | None = None
    bias: Tensor | None = None
    tokens: SoftTokens | None = None
    edits: tuple[Edit, ...] = ()
    places: Tensor | None = None
    window: int | None = None
    added: Tensor | None = None

    @property
    def batch_shape(self) -> torch.Size:
        shapes = [] if self.key_values is None else [self.key_values.batch_shape]
        if self.tokens is not None:
            shapes.append(self.tokens.embeddings.shape[:-2])
        if self.added is not None:
            shapes.append(self.added.shape[:-2])
        shapes += [edit.batch_shape for edit in self.edits]
        return torch.broadcast_shapes(*shapes) if shapes else torch.Size()

    def __bool__(self) -> bool:
        given = (self.key_values, self.tokens, self.added)
        return bool(self.edits) or any(part is not None for part in given)

    @staticmethod
    def cat(parts: Sequence[Memory]) -> Memory:
        """One memory of several."""
        cached = [p for p in parts if p.key_values is not None and p.bias is not None]
        tokens = [p.tokens for p in parts if p.tokens is not None]
        windows = [p.window for p in parts if p.window is not None]
        added = [p.added for p in parts if p.added is not None]
        return Memory(
            KeyValues.cat([p.key_values for p in cached if p.key_values is not None]) if cached else None,
            torch.cat([p.bias for p in cached if p.bias is not None]) if cached else None,
            SoftTokens.cat(tokens) if tokens else None,
            tuple(edit for p in parts for edit in p.edits),
            torch.cat([p.first_places() for p in cached])
            if any(p.places is not None for p in cached)
            else None,
            min(windows) if windows else None,
            sum(added[1:], added[0]) if added else None,
        )

    def first_places(self) -> Tensor:
        """From which place on each of the keys is seen, ``(M,)``."""
        assert self.bias is not None
        return torch.zeros_like(self.bias) if self.places is None else self.places
