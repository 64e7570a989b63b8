"""Log-probabilities of tokens under a frozen linear head, in memory that does not grow with the vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


class FrozenHead(torch.autograd.Function):
    """``log softmax(W h + b)`` of given tokens, of hidden states h, where W and b are not trained.

    Logits exist for some rows at a time. Their gradient needs none of them again: that of ``log p(y)`` is
    ``W_y - sum_v p(v) W_v``, which is made beside the value and kept in their place, ``hidden_size`` numbers a token
    for ``vocab_size`` [the fused linear cross-entropy of Hsu et al. 2024, with a gradient for each token].
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, tokens: Tensor, weight: Tensor, bias: Tensor | None, rows: int
    ) -> Tensor:
        """``(n,)`` nats in float32 or better, of ``(n, hidden_size)`` and ``(n,)``, ``rows`` at a time."""
        log_p = hidden.new_empty(len(tokens), dtype=torch.promote_types(hidden.dtype, torch.float32))
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(tokens), rows):
            part = slice(start, start + rows)
            logits = linear(hidden[part], weight, bias).to(log_p.dtype)
            scale = logits.logsumexp(-1, keepdim=True)
            log_p[part] = (logits.gather(-1, tokens[part, None]) - scale)[:, 0]
            if slopes is not None:
                slopes[part] = _slopes(logits.sub_(scale).exp_(), tokens[part], weight)
        ctx.save_for_backward(hidden, tokens, weight, bias, slopes)
        return log_p

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, tokens, weight, bias, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for: its slopes have one of their own
            logits = linear(hidden, weight, bias).to(gradients[0].dtype)
            slopes = _slopes(logits.softmax(-1), tokens, weight)
        return (gradients[0][:, None].to(slopes.dtype) * slopes, None, None, None, None)


def _slopes(p: Tensor, tokens: Tensor, weight: Tensor) -> Tensor:
    return weight[tokens] - p.to(weight.dtype) @ weight
