"""Functionals of next-token laws, over a vocabulary too large to hold at every token at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..log_quantities import xlogp

_LOGITS_BUDGET = 2**24
"""Logits held at once; beyond it they are made and reduced in chunks of tokens, again in the backward."""


def per_token(function: Callable[..., Tensor], mask: Tensor, logits: int, *columns: Tensor) -> Tensor:
    """A function of each token, of the shape of ``mask``, 0 at padding.

    Args:
        function: of the columns' rows at ``n`` tokens, ``(n, ...)`` each, to ``(n,)``.
        mask: True for a token.
        logits: that the function makes for a token.
        columns: each of the shape of ``mask`` and further dimensions.
    """
    rows = [column[mask] for column in columns]
    size = max(1, _LOGITS_BUDGET // logits)
    if len(rows[0]) <= size:
        out = function(*rows)
    else:
        pieces = zip(*(row.split(size) for row in rows), strict=True)
        out = torch.cat([checkpoint(function, *piece, use_reentrant=False) for piece in pieces])
    return torch.zeros(mask.shape, dtype=out.dtype, device=out.device).masked_scatter(mask, out)


def mixture(log_p: Tensor, log_weights: Tensor) -> Tensor:
    """``log sum_z w_z p_z``, ``(n, V)``, of laws ``(n, P, V)`` with weights ``(n, P)``."""
    return (log_weights[..., None] + log_p).logsumexp(-2)


def jensen_shannon(log_p: Tensor, log_weights: Tensor) -> Tensor:
    """``H(sum_z w_z p_z) - sum_z w_z H(p_z)``, ``(n,)`` nats, of laws ``(n, P, V)`` with weights ``(n, P)``."""
    excess = log_p - mixture(log_p, log_weights)[..., None, :]
    return (log_weights.exp() * xlogp(log_p, excess).sum(-1)).sum(-1)


def given_prefix(log_weights: Tensor, log_p: Tensor) -> Tensor:
    """``log p(z|x,y_<t)``, ``(P, ..., T)``, from ``log p(z|x)`` ``(P, ...)`` and tokens' ``log p`` ``(P, ..., T)``."""
    return (log_weights[..., None] + log_p.cumsum(-1) - log_p).log_softmax(0)
