"""The page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from ..finding import Finding
from ..pictures import Picture
from ..pictures.style import NARROW, shown
from .answer import Answer
from .digits import aligned, digits
from .outputs import outputs, short
from .readings import all_readings, first_readings
from .svg import inline_svg

GRAVE, SERIOUS = 0.7, 0.4
"""Weights from which a finding is grave, and serious."""

ROWS = 10
"""Of the table of a probe, those that are shown."""


def render(
    diagnosis: Diagnosis,
    findings: Sequence[Finding],
    headline: str,
    drawn: Sequence[tuple[Picture, Figure]],
    settings: Mapping[str, str],
    answers: Sequence[Answer] = (),
) -> str:
    """One HTML page that asks for nothing else; the same for the same diagnosis.

    Whatever comes from the model or the user is text in it, never mark-up.

    Args:
        diagnosis: what is known.
        findings: what is wrong, the heaviest first.
        headline: the first line.
        drawn: the pictures, in order.
        settings: what was diagnosed and how, by name.
        answers: of probes, in order.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"headed": headed, "prose": prose, "aligned": aligned, "gravity": gravity}
    return environment.get_template("report.html").render(
        headline=headline,
        findings=findings,
        readings=first_readings(diagnosis),
        figures=all_readings(diagnosis.figures),
        pictures=_pictures(drawn),
        probes=[_probe(answer, place) for place, answer in enumerate(answers)],
        outputs=outputs(diagnosis),
        labelled=bool(diagnosis.labels),
        settings=settings,
    )


def _pictures(drawn: Sequence[tuple[Picture, Figure]]) -> list[dict[str, Any]]:
    """Two narrow ones beside each other; one that is left over takes the width of the page."""
    out: list[dict[str, Any]] = []
    waiting = False
    for place, (picture, figure) in enumerate(drawn):
        wide = figure.get_figwidth() > NARROW
        last = place + 1 == len(drawn) or drawn[place + 1][1].get_figwidth() > NARROW
        alone = not wide and not waiting and last
        waiting = not wide and not waiting and not alone
        label = f"{picture.heading}. {picture.caption}"
        out.append(
            {
                "picture": picture,
                "look": "wide" if wide else "alone" if alone else "narrow",
                "svg": inline_svg(figure, picture.name, label),
            }
        )
    return out


def _probe(answer: Answer, place: int) -> dict[str, Any]:
    """An answer with its picture and the first rows of its table, numbers as digits."""
    picture, rows = answer.picture, answer.rows[:ROWS]
    columns = {heading: [row[heading] for row in rows] for heading in (rows[0] if rows else ())}
    return {
        "answer": answer,
        "readings": all_readings(answer.figures),
        "svg": None if picture is None else inline_svg(picture, f"probe{place}", f"Probe {answer.name}."),
        "wide": picture is not None and picture.get_figwidth() > NARROW,
        "columns": [{"heading": h, "number": not isinstance(v[0], str)} for h, v in columns.items()],
        "rows": list(zip(*map(_cells, columns.values()), strict=True)),
    }


def _cells(column: Sequence[str | float]) -> list[str]:
    """Long texts cut, numbers as digits, with room for decimals where some have them."""
    texts = [short(value) if isinstance(value, str) else digits(value) for value in column]
    whole = all(isinstance(value, str) or "." not in text for value, text in zip(column, texts, strict=True))
    return [
        text if whole or isinstance(value, str) else aligned(text)
        for value, text in zip(column, texts, strict=True)
    ]


def prose(text: str) -> Markup:
    """Text whose words between backticks are set as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def headed(line: str) -> Markup:
    """A line whose words up to the first colon stand out."""
    head, colon, rest = line.partition(": ")
    return Markup('<strong>{}</strong><span class="unseen">{}</span>{}').format(head, colon, rest)


def gravity(weight: float) -> str:
    """A word for the weight of a finding."""
    return "grave" if weight >= GRAVE else "serious" if weight >= SERIOUS else "minor"


def _text(value: Any) -> Any:
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
