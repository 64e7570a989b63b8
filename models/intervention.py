"""Strategies that are set from outside while a latent program runs, request by request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor


class do(Messenger):
    """A handler that sets latents of the requests of a batch, and leaves the others to the router.

    ::

        with do(z=[0, 2, None]):
            model.generate(["sort 3 1 2 :", "sort 9 8 :", "sort 5 4 :"])

    The intervention ``do(z)`` [Pearl 2009] with a value of its own for each row of the plate ``data``: requests with
    different strategies, and requests without one, share each pass of the decoder. The law of the site stays the
    router's, so that ``Generation.router`` is the router's probability of the value that was set.

    Args:
        values: by the name of a latent, one value for all requests, or a list with a value or None for each. A value
            of D coordinates is a list of D numbers or a tensor.

    Raises:
        ValueError: without a latent; in the program, a value that the latent does not have, a list of another length
            than the batch, a latent that was given a value elsewhere; at the end, a latent that the program lacks.
    """

    def __init__(self, **values: Any) -> None:
        super().__init__()
        if not values:
            raise ValueError("do: expected a value for a latent by its name, do(z=2) say; got none")
        self.values = values
        self._met: set[str] = set()

    def __enter__(self) -> Self:
        self._met = set()
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        super().__exit__(kind, error, traceback)
        unknown = sorted(set(self.values) - self._met)
        if unknown and error is None:
            raise ValueError(f"do: no program that ran draws a latent named {', '.join(unknown)}")

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self.values:
            return
        self._met.add(name)
        if msg["is_observed"]:
            raise ValueError(
                f"do: {name} is given a value elsewhere, by z= of generate say; leave one of them out"
            )
        drawn, law = msg["value"], msg["fn"]
        given, is_given = _rows(name, self.values[name], law.event_shape, drawn)
        requests = drawn.shape[drawn.dim() - law.event_dim - 1]
        if len(given) not in (1, requests):
            raise ValueError(
                f"do: {name} has {len(given)} values, and there are {requests} requests; give one value for all, or "
                "one or None for each"
            )
        value = torch.where(is_given.reshape(-1, *(1 for _ in law.event_shape)), given, drawn)
        if not law.support.check(value).all():
            raise ValueError(f"do: {name}={self.values[name]}: expected values in {law.support}")
        msg["value"] = value


def _rows(name: str, values: Any, event: torch.Size, like: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``(R, *event)``, zeros where None stands, and where one is given, ``(R,)``."""
    one_for_all = not isinstance(values, Sequence | Tensor) or not all(
        value is None or _dimensions(value) == len(event) for value in values
    )
    rows = [values] if one_for_all else list(values)
    given = torch.zeros(len(rows), *event, dtype=like.dtype, device=like.device)
    for row, value in zip(given, rows, strict=True):
        if value is None:
            continue
        whole = not like.is_floating_point()
        if _dimensions(value) == len(event):
            number = torch.as_tensor(value, device=like.device)
            fits = number.shape == event and not (whole and (number != number.round()).any())
        if _dimensions(value) != len(event) or not fits:
            wanted = f"{event.numel()} numbers" if event else "a whole number" if whole else "a number"
            raise ValueError(f"do: {name}={value}: expected {wanted} for a request, or None to draw it")
        row.copy_(number)
    return given, torch.tensor([value is not None for value in rows], device=like.device)


def _dimensions(value: Any) -> int:
    """Of a number, a list of numbers and so on; -1 for anything else."""
    try:
        return torch.as_tensor(value).dim()
    except (TypeError, ValueError, RuntimeError):
        return -1
