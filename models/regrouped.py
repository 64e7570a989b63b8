"""Rows of weights, one for each strategy, put together anew."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def regrouped(rows: Tensor, weight: Tensor, gain: Tensor | float = 0.0) -> nn.Parameter:
    """``weight @ rows + gain``; where there are as many as before in place, for the optimizer that holds them.

    Args:
        rows: ``(K, ...)``.
        weight: ``(G, K)``.
        gain: what broadcasts with the new rows.
    """
    new = (weight.double() @ rows.double().cpu() + gain).to(rows)
    if len(new) != len(rows):
        return nn.Parameter(new)
    rows.copy_(new)
    assert isinstance(rows, nn.Parameter)
    return rows
