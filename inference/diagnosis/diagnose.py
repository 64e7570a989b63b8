"""Every diagnostic of a subject, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation.fidelity import fidelity
from ..evaluation.use import use
from .course import course_curves
from .diagnostic import Diagnosis, Diagnostic
from .diagnostics import DIAGNOSTICS, across
from .finding import Finding
from .findings import CHECKS
from .subject import Subject


def diagnose(
    subject: Subject,
    diagnostics: Sequence[Diagnostic] = DIAGNOSTICS,
    course: Iterable[Mapping[str, Any]] = (),
    labels: Sequence[str] = (),
    others: Sequence[Subject] = (),
    begins: Callable[[str], object] = str,
) -> Diagnosis:
    """Run the diagnostics one after the other.

    Args:
        subject: what is diagnosed.
        diagnostics: which.
        course: records of the fit, in order.
        labels: a name for each datum, for the pictures.
        others: further runs on the same data, to see whether they agree.
        begins: is told the name of each diagnostic when it begins.
    """
    figures = fidelity(subject.seen) | use(subject.seen)
    records = tuple(course)
    curves = course_curves(records)
    per_datum: dict[str, np.ndarray] = {}
    for diagnostic in diagnostics:
        begins(getattr(diagnostic, "__name__", type(diagnostic).__name__))
        readings = diagnostic(subject)
        figures |= readings.figures
        curves |= readings.curves
        per_datum |= readings.per_datum
    if others:
        readings = across([subject, *others])
        figures |= readings.figures
        curves |= readings.curves
    return Diagnosis(subject, figures, curves, per_datum, records, tuple(labels))


def findings(diagnosis: Diagnosis) -> list[Finding]:
    """What is wrong, the heaviest first."""
    found = [finding for check in CHECKS if (finding := check(diagnosis)) is not None]
    return sorted(found, key=lambda finding: -finding.weight)
