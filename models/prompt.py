"""The prompt, encoded once for all strategies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import Backbone, KeyValues, Span, soft_span
from .memory import SoftTokens


@dataclass(frozen=True)
class EncodedPrompt:
    """Keys and values of all of a prompt but its last token, which the response's pass reads again.

    The last token predicts the first of the response: read in the response's pass it sees z, while the rest
    of the prompt never does.

    Attributes:
        role: whose network encoded it.
        past: keys and values ``(B, heads, Tx - 1, head_dim)``; None where there are none.
        span: of the past, ``(B, Tx - 1)``.
        last: ``(B,)`` ids of the last tokens.
        start: the span ``(B, 1)`` of the last tokens.
    """

    role: str
    past: KeyValues | None
    span: Span
    last: Tensor
    start: Span

    def __len__(self) -> int:
        return self.last.shape[0]


def encode_prompt(
    backbone: Backbone,
    role: str,
    prompt: Tensor,
    mask: Tensor,
    delimiters: tuple[SoftTokens, SoftTokens] | None = None,
) -> EncodedPrompt:
    """Encode left-padded prompts ``(B, Tx)``; no gradient where nothing in it trains.

    Args:
        backbone: the LM.
        role: whose network.
        prompt: ids, padded on the left.
        mask: ``(B, Tx)``, True for a token.
        delimiters: soft tokens before the text (but after a BOS) and after it.
    """
    text = Span.of_tokens(mask)
    span, start = text[:-1], text[-1:]
    trains = delimiters is not None or not backbone.is_frozen(role)
    with torch.set_grad_enabled(torch.is_grad_enabled() and trains):
        embeddings = backbone.embed(prompt[:, :-1], role)
        if delimiters is not None:
            opening, closing = delimiters
            soft = SoftTokens.cat([opening, closing]).embeddings.expand(len(prompt), -1, -1)
            embeddings = torch.cat([embeddings, soft.to(embeddings.dtype)], 1)
            first = mask.long().argmax(-1, keepdim=True)  # (B, 1)
            after_bos = prompt.gather(1, first) == backbone.bos_id
            place = torch.minimum(first + torch.where(after_bos, 0.1, -0.9), start.order - 0.9)
            opened = soft_span(place, torch.zeros_like(first), opening.bias)
            closed = soft_span(start.order - 0.75, start.position, closing.bias)
            span = Span.cat([span, opened, closed])
        past = backbone.encode(role, embeddings, span) if span.length else None
    return EncodedPrompt(role, past, span, prompt[:, -1], start)
