"""What a diagnostic is, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from .subject import Subject


@dataclass(frozen=True)
class Readings:
    """What one diagnostic has found.

    Attributes:
        figures: numbers by name, ``<diagnostic>/<name>``; a standard error has its figure's name and ``_se``.
        curves: small arrays by name, of any shape (curves, matrices), for pictures and ``diagnostics.json``.
        per_datum: arrays whose first axis is the datum, by name, for the group ``sample_stats`` of the posterior's
            file.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    per_datum: Mapping[str, np.ndarray] = field(default_factory=dict)


class Diagnostic(Protocol):
    """A function of a subject; says nothing, and not something wrong, where it does not apply."""

    def __call__(self, subject: Subject) -> Readings:
        """The readings of a subject."""


@dataclass(frozen=True)
class Diagnosis:
    """All that is known of a subject.

    Attributes:
        subject: what was diagnosed.
        figures: those of all diagnostics by name, and those of the evaluation where there is one.
        curves: small arrays by name.
        per_datum: arrays over the data by name.
        course: the records of the fit, of ``metrics.jsonl``, in order; empty where there are none.
        labels: names that the user has for the data, such as the known strategy; empty where there are none.
    """

    subject: Subject
    figures: Mapping[str, float]
    curves: Mapping[str, np.ndarray]
    per_datum: Mapping[str, np.ndarray]
    course: tuple[Mapping[str, Any], ...] = ()
    labels: tuple[str, ...] = ()

    def figure(self, name: str) -> float | None:
        """A figure; None where it is not known."""
        return self.figures.get(name)
