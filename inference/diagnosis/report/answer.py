"""What a probe says, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Answer:
    """An answer, or why there is none.

    Attributes:
        name: of the probe.
        about: what it asks, in a sentence or two; may be empty.
        figures: numbers by name, ``probe/<probe>/<name>``; a standard error has its figure's name and ``_se``.
        rows: of its table, each a value for each heading.
        picture: None where there is nothing to see.
        refusal: why it cannot be asked of the run; None where it has answered.
    """

    name: str
    about: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    rows: Sequence[Mapping[str, str | float]] = ()
    picture: Figure | None = None
    refusal: str | None = None

    @property
    def file(self) -> str:
        """The name of its picture's files."""
        return f"probe_{self.name}"
