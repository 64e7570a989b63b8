"""Finitely many values of the latents, for figures that force z."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...models import Latent
from .clusters import clusters
from .posteriors import Posteriors


@dataclass(frozen=True)
class Values:
    """P values of the latents.

    Attributes:
        posterior: the share of each in each of N data, ``(N, P)``.
        given: what :func:`...models.generate` takes for them: ``"all"``, or one after the other.
    """

    posterior: Tensor
    given: list[Any]

    @property
    def centres(self) -> bool:
        """Whether they stand for a continuum."""
        return self.given != ["all"]


def values_of(seen: Posteriors, K: int, latents: Mapping[str, Latent]) -> Values | None:
    """All joint values where z is enumerable; the centres of K clusters, or fewer, where every latent is continuous.

    None where some latents are discrete and some continuous.

    Args:
        seen: of N data.
        K: clusters.
        latents: families of the latents by site.
    """
    if seen.posterior is not None:
        return Values(seen.posterior, ["all"])
    if seen.draws is None or not all(site.is_floating_point() for site in seen.draws.values()):
        return None
    found = clusters(seen.draws, K)
    centres = [
        {name: latents[name].nearest(point) for name, point in value.items()} for value in found.values
    ]
    return Values(found.posterior, centres)
