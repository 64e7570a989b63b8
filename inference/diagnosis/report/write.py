"""The report in a run's folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from ....models.pretrained import write_atomic
from ...figures import write_figure
from ..diagnostic import Diagnosis
from ..finding import Finding
from ..pictures import PICTURES, draw, laid_out
from ..subject import Subject
from .answer import Answer
from .render import render

REPORT, FIGURES = "report.html", "figures"


def write_report(
    folder: Path,
    diagnosis: Diagnosis,
    findings: Sequence[Finding],
    headline: str,
    settings: Mapping[str, str] | None = None,
    answers: Sequence[Answer] = (),
) -> Path:
    """Write ``report.html`` and, beside it, each picture as ``figures/<name>.png`` and ``.svg``; the page's path.

    The picture of a probe is ``figures/probe_<name>``. A picture of an earlier report whose readings are gone is
    removed. Arguments as those of :func:`.render.render`;
    ``settings`` go before what the subject says of itself.
    """
    about = {**(settings or {}), **describe(diagnosis.subject)}
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from font"
        )  # letters of the user's, which the page has
        drawn = draw(diagnosis)
        for picture, figure in drawn:
            write_figure(folder / FIGURES / picture.name, figure)
        for answer in answers:
            if answer.picture is not None:
                write_figure(folder / FIGURES / answer.file, laid_out(answer.picture))
        page = render(diagnosis, findings, headline, drawn, about, answers)
    kept = {picture.name for picture, _ in drawn}
    kept |= {answer.file for answer in answers if answer.picture is not None}
    earlier = {path.stem for path in (folder / FIGURES).glob("probe_*")}
    for name in {picture.name for picture in PICTURES} | earlier:
        if name not in kept:
            for suffix in ("png", "svg"):
                (folder / FIGURES / f"{name}.{suffix}").unlink(missing_ok=True)
    write_atomic(folder / REPORT, page.encode())
    return folder / REPORT


def describe(subject: Subject) -> dict[str, str]:
    """What was diagnosed, by name."""
    latents = (f"{name} ({type(latent).__name__})" for name, latent in subject.model.latents.items())
    about = {
        "base": subject.model.backbone.name,
        "model": type(subject.model).__name__,
        "guide": type(subject.guide).__name__,
        "latents": ", ".join(latents),
        "data": f"{len(subject.data)} held-out prompts, a response of the base each",
        "expectations over z": "sums over its values" if subject.enumerable else "draws from the guide",
        "seed": str(subject.seed),
    }
    return about if subject.task is None else about | {"task": type(subject.task).__name__}
