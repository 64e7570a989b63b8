"""One continuous latent of a space, its values as points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...models import VonMisesFisher
from .coder import Coder
from .space import Space


@dataclass(frozen=True)
class Chart:
    """A continuous latent, its values as points of D numbers.

    A point that is no value stands for the value nearest to it.

    Attributes:
        name: of the latent.
        points: the value of each datum, ``(N, D)``.
        coder: of the space.
    """

    name: str
    points: np.ndarray
    coder: Coder

    @property
    def coordinates(self) -> list[str]:
        """Names of the D columns."""
        return [f"{self.name}[{d}]" for d in range(self.points.shape[1])]

    @property
    def draws(self) -> np.ndarray:
        """From the guide, ``(S, N, D)``."""
        return _flat(self.coder.draws[self.name], 2)

    @property
    def on_sphere(self) -> bool:
        """Whether values are directions."""
        return isinstance(self.coder.latents[self.name], VonMisesFisher)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """The value nearest to each of ``(R, D)`` points."""
        return _flat(self.values(points), 1)

    def decode(self, points: np.ndarray, index: Sequence[int], temperature: float = 0.0) -> list[str]:
        """Responses to the prompts of R data at ``(R, D)`` points, the other latents at the data's own."""
        return self.coder.decode({self.name: self.values(points)}, list(index), temperature)

    def encode(self, index: Sequence[int], responses: Sequence[str]) -> np.ndarray:
        """The point ``(R, D)`` of each of R responses to the prompts of R data."""
        return self.nearest(_flat(self.coder.encode(list(index), responses)[self.name], 1))

    def router(self, index: Sequence[int], draws: int) -> np.ndarray:
        """Draws from ``p(z|x)``, ``(S, R, D)``, at the prompts of R data."""
        return _flat(self.coder.router(list(index), draws)[self.name], 2)

    def values(self, points: np.ndarray) -> Tensor:
        """The same as the latent's own values, ``(R, *event)``."""
        own = self.coder.own[self.name]
        given = torch.from_numpy(np.ascontiguousarray(points)).to(own).reshape(-1, *own.shape[1:])
        return self.coder.latents[self.name].nearest(given)


def chart_of(space: Space, latent: str | None, who: str) -> Chart:
    """The chart of the latent that is named, or of the only continuous one.

    Args:
        space: texts with their points, and the model that they were read by.
        latent: its name.
        who: the probe that asks, for messages.

    Raises:
        ValueError: no such latent, a discrete one, or several and none named.
    """
    coder = coder_of(space, who)
    kinds = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in coder.latents.items())
    if latent is not None and latent not in coder.latents:
        raise ValueError(f"probe {who}: latent={latent}: no such latent; the run has {kinds}")
    if not coder.draws or (latent is not None and latent not in coder.draws):
        raise ValueError(
            f"probe {who}: moves through the values of a continuous latent, and the run has {kinds}; "
            + (
                f"give probe.latent={next(iter(coder.draws))}"
                if coder.draws
                else "fit one with latent@latents.z=normal inference=elbo_pathwise"
            )
        )
    if latent is None and len(coder.draws) > 1:
        raise ValueError(
            f"probe {who}: the run has several continuous latents, {kinds}; give probe.latent=NAME"
        )
    name = latent or next(iter(coder.draws))
    return Chart(name, _flat(coder.own[name], 1), coder)


def coder_of(space: Space, who: str) -> Coder:
    """The model of the space.

    Raises:
        ValueError: points alone.
    """
    if space.coder is None:
        raise ValueError(f"probe {who}: the space has points and no model; give it a coder, as space_of does")
    return space.coder


def _flat(values: Tensor, batch: int) -> np.ndarray:
    """As numbers whose last axis is all of the event's."""
    return np.asarray(values.double().reshape(*values.shape[:batch], -1).numpy())
