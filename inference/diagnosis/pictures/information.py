"""What several estimates say of the information of z."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from .style import COLOURS, INK, panels, styled

ESTIMATES = (
    ("use/mutual_information", "responses of the base", ""),
    ("information/exact", "exact sum over z", ""),
    ("information/lower", "between two bounds", ""),
    ("information/guide", "as read by the guide, a lower bound", ""),
    ("information/infonce", "InfoNCE, a lower bound", "information/infonce_trusted"),
    ("information/aggregate", "aggregate posterior", "information/aggregate_trusted"),
    ("information/prompt", "of the prompt: I(z; x)", "information/prompt_trusted"),
)
"""Of each estimate its figure, its name, and the figure that says whether it can be trusted."""

FAR = 2.0
"""Of the range of the estimates, where a ceiling is a number beside the estimate rather than a line."""


@styled
def information(diagnosis: Diagnosis) -> Figure | None:
    """Estimates with intervals of 1.96 standard errors, hollow where not to be trusted, beside their ceilings.

    A bar is what a number of draws leaves open: from the lower to the upper bound where z is not enumerable, in a band
    behind all estimates; and from InfoNCE to the bound without z in its own mean. A lower bound that is below 0 says
    nothing and is left out.
    """
    known = [row for row in ESTIMATES if diagnosis.figures.get(row[0], -1.0) >= -_error(diagnosis, row[0])]
    if len(known) < 2:
        return None
    figure, (panel,) = panels(1, height=0.9 + 0.45 * len(known))
    for place, (name, _, trust) in enumerate(known):
        _estimate(panel, diagnosis, place, name, diagnosis.figures.get(trust, 1.0) > 0)
    far = FAR * panel.get_xlim()[1]
    panel.set_yticks(range(len(known)), [_label(diagnosis, far, *row) for row in known])
    for name, label, dashes in (
        ("use/ceiling", "most that z can tell", (4, 3)),
        ("information/infonce_ceiling", "most that InfoNCE can give", (1, 2)),
    ):
        if diagnosis.figures.get(name, np.inf) < far:
            panel.axvline(diagnosis.figures[name], color=INK, linewidth=1, linestyle=(0, dashes), label=label)
    panel.set_ylim(len(known) - 0.5, -0.5)
    panel.set_xlim(min(0.0, panel.get_xlim()[0]))
    panel.set_xlabel("information (nats per sequence)")
    if panel.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _estimate(panel: Axes, diagnosis: Diagnosis, place: int, name: str, trusted: bool) -> None:
    """A point with its interval, and what is left open above it."""
    value, upper = diagnosis.figures[name], _upper(diagnosis, name)
    points = {value: _error(diagnosis, name)}
    if upper is not None and upper[0] > value:
        panel.barh(place, upper[0] - value, 0.3, value, color=COLOURS[0], alpha=0.35)
        if name == "information/lower":
            panel.axvspan(
                value, upper[0], color=COLOURS[7], alpha=0.3, linewidth=0, label="between the bounds"
            )
            points[upper[0]] = upper[1]
    panel.errorbar(
        list(points),
        [place] * len(points),
        xerr=list(points.values()),
        fmt="o",
        color=COLOURS[0],
        markerfacecolor=COLOURS[0] if trusted else "none",
        markersize=6,
        capsize=3,
    )


def _upper(diagnosis: Diagnosis, name: str) -> tuple[float, float] | None:
    """The bound above a lower one, and the half of its interval; None of other estimates."""
    figures = diagnosis.figures
    if name == "information/lower" and "information/upper" in figures:
        return figures["information/upper"], _error(diagnosis, "information/upper")
    if name == "information/infonce" and "information/infonce_width" in figures:
        return figures[name] + figures["information/infonce_width"], 0.0
    return None


def _label(diagnosis: Diagnosis, far: float, name: str, label: str, trust: str) -> str:
    """The name of an estimate, with its ceiling where no line shows it, and whether it can be trusted."""
    ceiling = diagnosis.figures.get("information/infonce_ceiling", 0.0)
    notes = [f"at most {ceiling:.2f}"] if name == "information/infonce" and ceiling >= far else []
    notes += [] if diagnosis.figures.get(trust, 1.0) > 0 else ["not to be trusted"]
    return f"{label}\n({', '.join(notes)})" if notes else label


def _error(diagnosis: Diagnosis, name: str) -> float:
    return 1.96 * diagnosis.figures.get(f"{name}_se", 0.0)
