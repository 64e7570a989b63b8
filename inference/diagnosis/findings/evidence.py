"""Figures with their errors, and when they are beyond a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ....models.generation import in_order
from ..diagnostic import Diagnosis
from ..subject import Subject

SURE = 2.0
"""Standard errors that a figure has to be beyond its bound: by chance once in forty, on one side."""


@dataclass(frozen=True)
class Estimate:
    """A figure.

    Attributes:
        value: the figure.
        error: its standard error; 0 of an exact one.
    """

    value: float
    error: float = 0.0

    @property
    def low(self) -> float:
        """The end of its interval below."""
        return self.value - SURE * self.error

    @property
    def high(self) -> float:
        """The end of its interval above."""
        return self.value + SURE * self.error

    def above(self, bound: float) -> bool:
        """Whether it is above the bound for sure."""
        return self.low > bound

    def below(self, bound: float) -> bool:
        """Whether it is below the bound for sure."""
        return self.high < bound

    def over(self, whole: float) -> Estimate:
        """The figure as a share of a number that is known."""
        return Estimate(self.value / whole, self.error / abs(whole))

    def told(self, unit: str = "") -> str:
        """``0.40 nats (standard error 0.02)``: as many places as the error has two digits for."""
        small = max(self.error or abs(self.value), 1e-3)
        places = max(2, 1 - math.floor(math.log10(small)))
        figure = f"{round(self.value, places) + 0.0:.{places}f}{' ' * bool(unit)}{unit}"
        least = 10.0**-places
        error = f"{self.error:.{places}f}" if self.error >= least / 2 else f"below {least:.{places}f}"
        return f"{figure} (standard error {error})" if self.error > 1e-6 else figure


def estimate(diagnosis: Diagnosis, name: str) -> Estimate | None:
    """A figure with its standard error; None where it is not known, or no number."""
    value, error = diagnosis.figure(name), diagnosis.figure(f"{name}_se") or 0.0
    if value is None or not math.isfinite(value) or not math.isfinite(error):
        return None
    return Estimate(value, error)


def share_of(share: float, count: int) -> Estimate:
    """A share of ``count`` data with an error that is not 0 where all or none are [Agresti & Coull 1998]."""
    centre = (share * count + 2) / (count + 4)
    return Estimate(share, math.sqrt(centre * (1 - centre) / (count + 4)))


def percent(share: float, places: int = 0) -> str:
    """A share in words: ``12 %``, ``0.3 %``."""
    return f"{100 * share:.{1 if 0.0005 <= share < 0.01 else places}f} %"


def plural(count: int, one: str) -> str:
    """``1 value``, ``2 values``."""
    return f"{count} {one}{'' if count == 1 else 's'}"


def listed(parts: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; only the first where there are many."""
    if len(parts) > most:
        return f"{', '.join(parts[:most])} and {len(parts) - most} more"
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def sizes(subject: Subject) -> dict[str, int]:
    """Values of each latent, in the order in which joint values count them; of enumerable latents."""
    latents = in_order(subject.model, subject.data.batch([0]).to(subject.model.backbone.device))
    return {name: latent.num_values for name, latent in latents.items()}
