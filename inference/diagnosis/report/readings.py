"""Figures as lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..diagnostic import Diagnosis
from ..findings.evidence import Estimate
from .digits import digits
from .lines import LINES, Line
from .words import Word


@dataclass(frozen=True)
class Reading:
    """A figure in words and digits.

    Attributes:
        name: of the figure.
        label: what it is.
        value: its digits.
        error: those of its standard error; empty where there is none.
        unit: of both.
        beside: another figure to hold it against, in words and digits; empty where there is none.
        word: what it comes to.
    """

    name: str
    label: str
    value: str
    error: str
    unit: str = ""
    beside: str = ""
    word: Word | None = None


def first_readings(diagnosis: Diagnosis) -> dict[str, list[Reading]]:
    """By heading, the lines of the report that are known."""
    found = {
        heading: [_reading(diagnosis, name, line) for line in lines for name in _names(line, diagnosis)]
        for heading, lines in LINES.items()
    }
    return {heading: readings for heading, readings in found.items() if readings}


def all_readings(figures: Mapping[str, float]) -> list[Reading]:
    """Every figure by its name, standard errors beside what they are of."""
    return [_plain(figures, name) for name in figures if not _is_error(name, figures)]


def _reading(diagnosis: Diagnosis, name: str, line: Line) -> Reading:
    value, error = diagnosis.figures[name], diagnosis.figure(f"{name}_se") or 0.0
    word = line.judge(Estimate(value, error), diagnosis) if math.isfinite(value) else None
    label = f"{line.label}: {name.removeprefix(line.name)}" if line.name.endswith("/") else line.label
    beside = line.beside(diagnosis)
    return replace(_plain(diagnosis.figures, name), label=label, unit=line.unit, beside=beside, word=word)


def _plain(figures: Mapping[str, float], name: str) -> Reading:
    error = figures.get(f"{name}_se")
    return Reading(name, name, digits(figures[name]), "" if error is None else digits(error))


def _names(line: Line, diagnosis: Diagnosis) -> list[str]:
    if not line.when(diagnosis):
        return []
    if not line.name.endswith("/"):
        return [line.name] if line.name in diagnosis.figures else []
    return [n for n in diagnosis.figures if n.startswith(line.name) and not _is_error(n, diagnosis.figures)]


def _is_error(name: str, figures: Mapping[str, float]) -> bool:
    return name.endswith("_se") and name.removesuffix("_se") in figures
