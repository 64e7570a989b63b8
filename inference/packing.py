"""Examples of different lengths in rows of one length, so that no pass is spent on padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import Example


@dataclass(frozen=True)
class Packed:
    """Rows of examples, one after the other in each.

    Attributes:
        ids: ``(R, T)`` token ids, prompt and response of each example.
        segment: ``(R, T)`` which example of the row a token is of, from 1 on; 0 for filling.
        position: ``(R, T)`` place of a token in its example.
        target: ``(R, T)`` whether a token is of a response.
        size: examples.
    """

    ids: Tensor
    segment: Tensor
    position: Tensor
    target: Tensor
    size: int

    def to(self, device: torch.device) -> Packed:
        """The rows on a device."""
        ids, segment, position, target = (
            x.to(device, non_blocking=True) for x in (self.ids, self.segment, self.position, self.target)
        )
        return Packed(ids, segment, position, target, self.size)

    def attention(self) -> Tensor:
        """``(R, 1, T, T)`` additive mask, under which a token sees what came before it in its own example."""
        same = self.segment[:, :, None] == self.segment[:, None, :]
        causal = torch.ones(same.shape[1:], dtype=torch.bool, device=same.device).tril()
        mask = torch.zeros(same.shape, device=same.device)
        return mask.masked_fill(~(same & causal), torch.finfo(mask.dtype).min)[:, None]


def pack(examples: Iterable[Example], rows: int, length: int, pad_id: int) -> Iterator[Packed]:
    """The examples in ``rows`` rows of ``length`` tokens, each in the first row that has room for it.

    Raises:
        ValueError: an example that is longer than a row.
    """
    contents: list[list[Example]] = [[] for _ in range(rows)]
    for example in examples:
        tokens = _tokens(example)
        if tokens > length:
            raise ValueError(
                f"an example of {tokens} tokens does not fit into rows of {length}; enlarge context"
            )
        row = next((r for r in contents if sum(map(_tokens, r)) + tokens <= length), None)
        if row is None:
            yield _rows(contents, length, pad_id)
            contents = [[] for _ in range(rows)]
            row = contents[0]
        row.append(example)
    if contents[0]:
        yield _rows(contents, length, pad_id)


def _tokens(example: Example) -> int:
    return len(example.prompt) + len(example.response)


def _rows(contents: list[list[Example]], length: int, pad_id: int) -> Packed:
    ids, segment, position, target = [], [], [], []
    for row in contents:
        lengths = [_tokens(e) for e in row]
        filling = length - sum(lengths)
        ids.append([t for e in row for t in (*e.prompt, *e.response)] + [pad_id] * filling)
        segment.append([n for n, size in enumerate(lengths, 1) for _ in range(size)] + [0] * filling)
        position.append([t for size in lengths for t in range(size)] + [0] * filling)
        target.append([t >= len(e.prompt) for e, size in zip(row, lengths, strict=True) for t in range(size)])
        target[-1] += [False] * filling
    size = sum(map(len, contents))
    return Packed(
        torch.tensor(ids), torch.tensor(segment), torch.tensor(position), torch.tensor(target), size
    )
