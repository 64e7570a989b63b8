"""The contract of a probe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .space import Space


@dataclass(frozen=True)
class Reading:
    """What a probe has found.

    Attributes:
        figures: numbers by name.
        rows: of its table, each a value for each heading.
        picture: None where there is nothing to see.
    """

    figures: Mapping[str, float]
    rows: Sequence[Mapping[str, str | float]]
    picture: Figure | None = None


class Probe(ABC):
    """A question to a latent space."""

    @abstractmethod
    def __call__(self, space: Space) -> Reading:
        """The answer.

        Raises:
            ValueError: a space that it cannot be asked of.
        """
