"""Changes to what flows through a layer, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Change = Callable[..., Tensor]
"""``(inputs (rows, T, n), *numbers (rows, m))`` to what is added, ``(rows, T, n')``."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """``B (s * A x)`` of inputs x and scales s.

    Attributes:
        down: A, ``(n, R)``.
        up: B, ``(R, n')``.
    """

    down: Tensor
    up: Tensor

    def __call__(self, inputs: Tensor, scale: Tensor) -> Tensor:
        return (inputs @ self.down.to(inputs.dtype) * scale[:, None]) @ self.up.to(inputs.dtype)


@dataclass(frozen=True)
class Edit:
    """What is added to the hidden states that enter a layer, or to the output of a linear map in it.

    Attributes:
        layer: number of the layer.
        target: name of the linear map within the layer, whose input ``change`` reads and whose output it adds to; empty
            for the hidden states.
        change: the function.
        numbers: that it gets of each row, ``(*batch, m)`` each.
    """

    layer: int
    target: str
    change: Change
    numbers: tuple[Tensor, ...]

    @property
    def batch_shape(self) -> torch.Size:
        return torch.broadcast_shapes(*(n.shape[:-1] for n in self.numbers))

    def rows(self, batch_shape: torch.Size) -> Edit:
        """The same for the rows of a batch shape, flattened."""
        flat = tuple(n.expand(*batch_shape, n.shape[-1]).reshape(-1, n.shape[-1]) for n in self.numbers)
        return Edit(self.layer, self.target, self.change, flat)

    def added(self, inputs: Tensor) -> Tensor:
        """What is added, of inputs ``(rows, T, n)``, or ``(rows * T, n)`` as some networks have them."""
        numbers = [n.to(inputs.dtype) for n in self.numbers]
        change = self.change(inputs.reshape(len(numbers[0]), -1, inputs.shape[-1]), *numbers)
        return change.reshape(*inputs.shape[:-1], -1).to(inputs.dtype)


@contextmanager
def edited(layers: nn.ModuleList, edits: Sequence[Edit]) -> Iterator[None]:
    """The layers with their edits, of as many rows as pass through them."""
    handles = []
    try:
        for edit in edits:
            layer = layers[edit.layer]
            if edit.target:
                handles.append(layer.get_submodule(edit.target).register_forward_hook(_after(edit)))
            else:
                handles.append(layer.register_forward_pre_hook(_before(edit), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before(edit: Edit) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (args[0] + edit.added(args[0]), *args[1:]), kwargs
        hidden = kwargs["hidden_states"]
        return args, {**kwargs, "hidden_states": hidden + edit.added(hidden)}

    return hook


def _after(edit: Edit) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + edit.added(args[0])

    return hook
