"""What a finding is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .diagnostic import Diagnosis


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        name: in a word or two, such as ``collapsed``.
        weight: how much it matters, from 0 to 1; the heaviest is told first.
        seen: what was seen, with the figure.
        why: why it matters.
        change: what to change: overrides of ``stratagem fit``, in words around them.
    """

    name: str
    weight: float
    seen: str
    why: str
    change: str


class Check(Protocol):
    """Looks for one fault."""

    def __call__(self, diagnosis: Diagnosis) -> Finding | None:
        """The fault where it is there; None where it is not, or where it cannot be told."""
