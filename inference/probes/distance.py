"""How unlike two texts are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import normalize

from ...models import TextEncoder
from ..diagnosis.diagnostics.texts import edit_distance
from .coder import Coder

Distance = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Of R pairs of texts ``(R,)``, from 0 for the same to 1; a metric."""

AT_ONCE = 64


def distance_of(coder: Coder, encoder: str | None) -> Distance:
    """Between token sequences, or between embeddings where an encoder is named."""
    return EditDistance(coder.tokens) if encoder is None else EmbeddingDistance(TextEncoder(encoder))


class EditDistance:
    """``2 e / (|a| + |b| + e)``, e insertions, deletions and replacements of a token [Li & Liu 2007].

    2/3 for two texts of one length without a token in common, 1 for a text and none.

    Args:
        tokens: of a text.
    """

    def __init__(self, tokens: Callable[[str], Sequence[int]]) -> None:
        self.tokens = tokens

    def __call__(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        one, other = [self.tokens(text) for text in first], [self.tokens(text) for text in second]
        sizes = np.array([[len(a), len(b)] for a, b in zip(one, other, strict=True)]).reshape(-1, 2)
        edits = edit_distance(one, other) * sizes.max(1)
        return 2 * edits / np.maximum(sizes.sum(1) + edits, 1)


class EmbeddingDistance:
    """Half the Euclidean distance of mean last hidden states, each brought to length 1.

    Args:
        encoder: of the texts.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder

    def __call__(self, first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        texts = list(dict.fromkeys([*first, *second]))
        places = {text: place for place, text in enumerate(texts)}
        points = np.concatenate([self._embed(texts[i : i + AT_ONCE]) for i in range(0, len(texts), AT_ONCE)])
        one, other = (points[[places[text] for text in side]] for side in (first, second))
        return np.asarray(np.linalg.norm(one - other, axis=1) / 2)

    @torch.no_grad()
    def _embed(self, texts: list[str]) -> np.ndarray:
        hidden, mask = self.encoder(None, texts)
        weight = mask[..., None].to(hidden.dtype)
        return normalize((hidden * weight).sum(1) / weight.sum(1).clamp(min=1), dim=-1).double().numpy()
