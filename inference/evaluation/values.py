"""Finitely many values of the latents, for figures that force z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

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


def values_of(seen: Posteriors, K: int) -> Values | None:
    """All joint values where z is enumerable; the centres of K clusters, or fewer, where every latent is continuous.

    None where some latents are discrete and some continuous.

    Args:
        seen: of N data.
        K: clusters.
    """
    if seen.posterior is not None:
        return Values(seen.posterior, ["all"])
    if seen.draws is None or not all(site.is_floating_point() for site in seen.draws.values()):
        return None
    found = clusters(seen.draws, K)
    return Values(found.posterior, found.values)
