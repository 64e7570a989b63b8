"""From hidden states of a sequence to one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn


class Pooling(nn.Module, ABC):
    """``(B, T, H)`` hidden states and ``(B, T)`` mask to ``(B, vectors * H)``."""

    vectors: ClassVar[int] = 1

    @abstractmethod
    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor: ...


class MeanPooling(Pooling):
    """The mean over the tokens."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        weight = mask.to(hidden.dtype)[..., None]
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


class FirstPooling(Pooling):
    """The first token, which encoders such as BERT are trained to say all by."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        first = mask.long().argmax(-1)  # (B,)
        return hidden[torch.arange(len(hidden), device=hidden.device), first]


class LastPooling(Pooling):
    """The last token."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        last = mask.shape[1] - 1 - mask.long().flip(-1).argmax(-1)  # (B,)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]


class MeanLastPooling(Pooling):
    """The mean over the tokens, and the last token."""

    vectors: ClassVar = 2

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([MeanPooling(), LastPooling()])

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([part(hidden, mask) for part in self.parts], -1)


class AttentionPooling(Pooling):
    """A learned softmax over the tokens, the mean at the start [Yang et al. 2016, eq. 6]."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        score = hidden.to(self.query.dtype) @ self.query / hidden.shape[-1] ** 0.5  # (B, T)
        weight = score.masked_fill(~mask, -torch.inf).softmax(-1).to(hidden.dtype)
        return (hidden * weight[..., None]).sum(1)


def make_pooling(kind: str, hidden_size: int) -> Pooling:
    """The pooling named ``mean``, ``first``, ``last``, ``mean_last`` or ``attention``."""
    if kind == "attention":
        return AttentionPooling(hidden_size)
    stateless: dict[str, type[Pooling]] = {
        "mean": MeanPooling,
        "first": FirstPooling,
        "last": LastPooling,
        "mean_last": MeanLastPooling,
    }
    if kind not in stateless:
        raise ValueError(f"pooling must be mean, first, last, mean_last or attention, got {kind}")
    return stateless[kind]()
