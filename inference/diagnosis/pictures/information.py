"""What several estimates say of the information of z."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from .style import COLOURS, INK, panels, styled

ESTIMATES = (
    ("use/mutual_information", "responses of the base", ""),
    ("information/exact", "exact sum over z", ""),
    ("information/lower", "lower bound", ""),
    ("information/upper", "upper bound", ""),
    ("information/guide", "as read by the guide, a lower bound", ""),
    ("information/infonce", "InfoNCE", "information/infonce_trusted"),
    ("information/aggregate", "aggregate posterior", "information/aggregate_trusted"),
    ("information/prompt", "of the prompt: I(z; x)", "information/prompt_trusted"),
)
"""Of each estimate its figure, its name, and the figure that says whether it can be trusted."""

CEILINGS = (
    ("use/ceiling", "most that z can tell"),
    ("information/infonce_ceiling", "most that InfoNCE can give"),
)


@styled
def information(diagnosis: Diagnosis) -> Figure | None:
    """Estimates with intervals of 1.96 standard errors, hollow where not to be trusted, beside their ceilings.

    A lower bound that is below 0 says nothing and is left out.
    """
    known = [row for row in ESTIMATES if diagnosis.figures.get(row[0], -1.0) >= -_error(diagnosis, row[0])]
    if len(known) < 2:
        return None
    figure, (panel,) = panels(1, height=0.9 + 0.45 * len(known))
    for place, (name, _, trust) in enumerate(known):
        trusted = diagnosis.figures.get(trust, 1.0) > 0
        panel.errorbar(
            diagnosis.figures[name],
            place,
            xerr=_error(diagnosis, name),
            fmt="o",
            color=COLOURS[0],
            markerfacecolor=COLOURS[0] if trusted else "none",
            markersize=6,
            capsize=3,
        )
    labels = [
        f"{label}{'' if diagnosis.figures.get(trust, 1.0) > 0 else chr(10) + '(not to be trusted)'}"
        for _, label, trust in known
    ]
    panel.set_yticks(range(len(known)), labels)
    far = 2 * panel.get_xlim()[1]
    for (name, label), dashes in zip(CEILINGS, ((4, 3), (1, 2)), strict=True):
        if diagnosis.figures.get(name, np.inf) < far:
            panel.axvline(diagnosis.figures[name], color=INK, linewidth=1, linestyle=(0, dashes), label=label)
    panel.set_ylim(len(known) - 0.5, -0.5)
    panel.set_xlim(min(0.0, panel.get_xlim()[0]))
    panel.set_xlabel("information (nats per sequence)")
    if panel.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _error(diagnosis: Diagnosis, name: str) -> float:
    return 1.96 * diagnosis.figures.get(f"{name}_se", 0.0)
