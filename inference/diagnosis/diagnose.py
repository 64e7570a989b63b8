"""Every diagnostic of a subject, and what they come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from ..evaluation.fidelity import fidelity
from ..evaluation.use import use
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
    progress: bool | None = False,
) -> Diagnosis:
    """Run the diagnostics one after the other.

    Args:
        subject: what is diagnosed.
        diagnostics: which.
        course: records of the fit, for the picture of its course.
        labels: a name for each datum, for the pictures.
        others: further runs on the same data, to see whether they agree.
        progress: show a progress bar; None: where the output is a terminal.
    """
    figures = fidelity(subject.seen) | use(subject.seen)
    curves: dict[str, np.ndarray] = {}
    per_datum: dict[str, np.ndarray] = {}
    with tqdm(diagnostics, disable=None if progress is None else not progress, desc="diagnose") as bar:
        for diagnostic in bar:
            bar.set_postfix_str(getattr(diagnostic, "__name__", type(diagnostic).__name__))
            readings = diagnostic(subject)
            figures |= readings.figures
            curves |= readings.curves
            per_datum |= readings.per_datum
    if others:
        readings = across([subject, *others])
        figures |= readings.figures
        curves |= readings.curves
    return Diagnosis(subject, figures, curves, per_datum, tuple(course), tuple(labels))


def findings(diagnosis: Diagnosis) -> list[Finding]:
    """What is wrong, the heaviest first."""
    found = [finding for check in CHECKS if (finding := check(diagnosis)) is not None]
    return sorted(found, key=lambda finding: -finding.weight)
