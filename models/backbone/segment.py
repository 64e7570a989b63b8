"""A stretch of input to the backbone, and who may attend to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Where the tokens of a stretch stand, whatever their place in memory.

    Attributes:
        position: ``(B, T)`` integer, the position that the network is told.
        order: ``(B, T)`` float; a token attends to those whose order is not above its own.
        bias: ``(B, T)`` float, added to the attention logits of the token as a key: 0 for a plain token,
            ``log s`` for one of strength ``s``, minus infinity for padding.
        last: ``(B, T)`` float; tokens of a larger order do not see the token; None where all do.
    """

    position: Tensor
    order: Tensor
    bias: Tensor
    last: Tensor | None = None

    @property
    def length(self) -> int:
        return self.position.shape[-1]

    @staticmethod
    def cat(parts: Sequence[Span]) -> Span:
        lasts = [torch.full_like(p.order, torch.inf) if p.last is None else p.last for p in parts]
        return Span(
            torch.cat([p.position for p in parts], -1),
            torch.cat([p.order for p in parts], -1),
            torch.cat([p.bias for p in parts], -1),
            None if all(p.last is None for p in parts) else torch.cat(lasts, -1),
        )

    def __getitem__(self, columns: slice) -> Span:
        last = None if self.last is None else self.last[:, columns]
        return Span(self.position[:, columns], self.order[:, columns], self.bias[:, columns], last)

    @staticmethod
    def of_tokens(mask: Tensor) -> Span:
        """Text tokens with padding on either side; ``mask`` is ``(B, T)``, True for a token."""
        position = (mask.long().cumsum(-1) - 1).clamp(min=0)
        order = torch.arange(mask.shape[-1], device=mask.device, dtype=torch.float32).expand(mask.shape)
        return Span(position, order, torch.zeros_like(order).masked_fill(~mask, -torch.inf))


def soft_span(order: Tensor, position: Tensor, bias: Tensor) -> Span:
    """``n`` tokens that take no position of their own: at ``position`` ``(B, 1)``, a row from ``order`` ``(B, 1)`` on.

    ``bias`` is ``(n,)``. The row ends within a quarter of a step, before the next token of the text.
    """
    steps = torch.arange(len(bias), device=order.device) / (4 * max(len(bias), 1))
    return Span(position.expand(-1, len(bias)), order + steps, bias.float().expand(len(order), -1))


def attention_mask(queries: Span, keys: Span, dtype: torch.dtype) -> Tensor:
    """Additive mask ``(B, 1, Tq, Tk)``; the least finite number stands for minus infinity, so that no row is NaN."""
    seen = keys.order[:, None, :] <= queries.order[:, :, None]  # (B, Tq, Tk)
    if keys.last is not None:
        seen &= queries.order[:, :, None] <= keys.last[:, None, :]
    least = torch.finfo(dtype).min
    bias = keys.bias.to(dtype).clamp(min=least)[:, None, :].expand(seen.shape)
    return bias.masked_fill(~seen, least)[:, None]  # (B, 1, Tq, Tk)
