"""Keys and values that several rows share: what lets K strategies cost one encoding of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class KeyValues:
    """Keys and values of one stretch of context, a tensor a layer.

    Shapes: ``keys[layer]`` and ``values[layer]`` are ``(*batch, heads, length, head_dim)``.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        return self.keys[0].shape[-2]

    @property
    def batch_shape(self) -> torch.Size:
        return self.keys[0].shape[:-3]

    def detach(self) -> KeyValues:
        return KeyValues(tuple(k.detach() for k in self.keys), tuple(v.detach() for v in self.values))

    @staticmethod
    def cat(parts: Sequence[KeyValues]) -> KeyValues:
        """Joined along the length; the batch shapes broadcast."""
        if len(parts) == 1:
            return parts[0]
        shape = torch.broadcast_shapes(*(p.batch_shape for p in parts))

        def join(tensors: tuple[Tensor, ...]) -> Tensor:
            return torch.cat([t.expand(*shape, *t.shape[-3:]) for t in tensors], -2)

        return KeyValues(
            tuple(join(layer) for layer in zip(*(p.keys for p in parts), strict=True)),
            tuple(join(layer) for layer in zip(*(p.values for p in parts), strict=True)),
        )


class SharedLayer(CacheLayerMixin):
    """One layer's past, shared stretches first, then what the rows themselves have added.

    The shared stretches broadcast over the rows in the one concatenation that attention needs anyway, and are
    never written to.
    """

    keys: Tensor | None
    values: Tensor | None

    def __init__(self, shared: Sequence[tuple[Tensor, Tensor]], batch_shape: torch.Size) -> None:
        super().__init__()
        self._shared, self._batch_shape = shared, batch_shape
        self._length = sum(k.shape[-2] for k, _ in shared)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:  # noqa: ARG002
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            self.keys = self._join([k for k, _ in self._shared], key_states)
            self.values = self._join([v for _, v in self._shared], value_states)
        else:
            self.keys = torch.cat([self.keys, key_states], -2)
            self.values = torch.cat([self.values, value_states], -2)
        self._length = self.keys.shape[-2]
        return self.keys, self.values

    def _join(self, shared: list[Tensor], new: Tensor) -> Tensor:
        if not shared:
            return new
        rows = new.unflatten(0, self._batch_shape)  # (*batch, heads, length, head_dim)
        parts = [s.to(new.dtype).expand(*self._batch_shape, *s.shape[-3:]) for s in shared]
        return torch.cat([*parts, rows], -2).flatten(0, len(self._batch_shape) - 1)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        return self._length

    def get_max_length(self) -> int:
        return -1


class SharedCache(Cache):
    """The past of ``prod(batch_shape)`` rows, its shared stretches kept once.

    Args:
        shared: stretches of context in order, each of a batch shape that broadcasts to ``batch_shape``.
        batch_shape: the rows before flattening.
        num_layers: layers of the model.
    """

    def __init__(self, shared: Sequence[KeyValues], batch_shape: torch.Size, num_layers: int) -> None:
        super().__init__(
            layers=[
                SharedLayer([(s.keys[i], s.values[i]) for s in shared], batch_shape)
                for i in range(num_layers)
            ]
        )

    def key_values(self) -> KeyValues:
        """All keys and values so far, ``(rows, heads, length, head_dim)``."""
        return KeyValues(
            tuple(layer.keys for layer in self.layers), tuple(layer.values for layer in self.layers)
        )
