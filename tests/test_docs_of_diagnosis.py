"""docs/diagnostics.md has the name of every figure and curve, and no other."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from stratagem.inference.diagnosis import diagnose
from stratagem.inference.diagnosis.course import course_curves
from stratagem.inference.diagnosis.findings import CHECKS
from stratagem.models import Categorical

from .report_fixtures import continuous_subject, tiny_subject
from .test_docs import documented as documented_of_evaluation

ROOT = Path(__file__).parents[1]
PLACES = {
    "<k>": "[0-9]+",
    "<d>": "[0-9]+",
    "<site>": "[a-z]+",
    "<quantity>": "[a-z0-9/]+",
    "<column>": "[a-z_]+",
}


COURSE = [
    {
        "split": "test",
        "step": step,
        "bound": -2.0,
        "kl_router": 0.1,
        "information": 0.1,
        "fidelity_gap_per_token": 0.01,
        "usage/0": 0.25,
        "usage/1": 0.75,
        "entropy/0": 1.0,
        "seconds": 0.1,
    }
    for step in (100, 200)
]


def pattern(name: str) -> re.Pattern[str]:
    text = re.escape(name)
    for place, stands_for in PLACES.items():
        text = text.replace(re.escape(place), stands_for)
    return re.compile(text)


def rows(head: str, document: str = "diagnostics.md") -> list[list[str]]:
    """Cells of the table whose first column is called so."""
    found, inside = [], False
    for line in (ROOT / "docs" / document).read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        inside = line.startswith("|") and (inside or cells[0] == head)
        if inside and cells[0] != head and not cells[0].startswith("-"):
            found.append(cells)
    return found


def documented() -> tuple[dict[str, re.Pattern[str]], dict[str, re.Pattern[str]]]:
    """Names of figures and of curves, each with the pattern of the names that it stands for."""
    figures = {}
    for cells in rows("name"):
        for name in re.findall(r"`([^`]+)`", cells[0]):
            for ending in ("", "_se") if "±" in cells[1] else ("",):
                figures[name + ending] = pattern(name + ending)
    curves = {
        name: pattern(name)
        for cells in rows("curve")
        for text in cells
        for name in re.findall(r"`([^`]+/[^`]+)`", text)
    }
    return figures, curves


@pytest.fixture(scope="module")
def produced() -> tuple[set[str], set[str]]:
    """Figures and curves of one latent in two runs, of two latents, and of a continuous one."""
    figures: set[str] = set()
    curves: set[str] = set()
    one = tiny_subject(num=40)
    two = tiny_subject({"a": Categorical(2), "b": Categorical(2)}, num=40)
    for subject, others in ((one, [one]), (two, []), (continuous_subject(40), [])):
        found = diagnose(subject, others=others, course=COURSE)
        figures |= set(found.figures)
        curves |= set(found.curves)
    return figures, curves


def test_every_figure_and_curve_is_documented(produced: tuple[set[str], set[str]]) -> None:
    figures, curves = documented()
    of_position = [
        re.compile(f"{name}(_se)?")
        for cells in rows("figure", "evaluation.md")
        for name in re.findall(r"`([^`]+)`", cells[0])
    ]
    known = [*figures.values(), *documented_of_evaluation().values(), *of_position]
    assert [name for name in sorted(produced[0]) if not any(p.fullmatch(name) for p in known)] == []
    assert [name for name in sorted(produced[1]) if not any(p.fullmatch(name) for p in curves.values())] == []


def test_every_documented_figure_and_curve_exists(produced: tuple[set[str], set[str]]) -> None:
    figures, curves = documented()
    assert len(figures) > 80
    assert len(curves) > 8
    given_by_the_user = "stability/paraphrase"
    assert [
        name
        for name, p in figures.items()
        if not name.startswith(given_by_the_user) and not any(p.fullmatch(n) for n in produced[0])
    ] == []
    assert [name for name, p in curves.items() if not any(p.fullmatch(n) for n in produced[1])] == []


def test_the_course_of_the_fit_is_kept_with_the_entropy_of_its_usage() -> None:
    curves = course_curves([{"split": "train", "step": 1, "bound": -3.0}, *COURSE])
    assert curves["course/bound"].tolist() == [[100, 200], [-2, -2]]
    nats = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert curves["course/usage_entropy"] == pytest.approx(np.array([[100, 200], [nats, nats]]))
    assert course_curves([]) == {}


def test_every_finding_is_documented_in_the_order_of_its_checks() -> None:
    told = [cells[0] for cells in rows("finding")]
    folder = ROOT / "inference" / "diagnosis" / "findings"
    sources = [(folder / f"{check.__name__}.py").read_text() for check in CHECKS]
    assert told == [re.findall(r'Finding\(\s*"([^"]+)"', source)[0] for source in sources]
