"""What forcing a strategy does to the responses."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..diagnostic import Diagnosis
from .strategies import strategy_axis, strategy_names
from .style import COLOURS, WIDE, panels, styled

EFFECTS = (
    ("length", "length (tokens)"),
    ("perplexity", "perplexity under p0"),
    ("distinct_1", "distinct tokens (share)"),
    ("distinct_2", "distinct pairs of tokens (share)"),
    ("repetition", "repetition (share)"),
)


@styled
def effect(diagnosis: Diagnosis) -> Figure | None:
    """By strategy, a panel for each property of the responses; the bar is a standard error either way."""
    known = [row for row in EFFECTS if f"intervention/{row[0]}/0" in diagnosis.figures]
    if not known:
        return None
    names = strategy_names(diagnosis.subject)
    figure, axes = panels(len(known), WIDE, min(8.0, 1.3 + 0.28 * len(names)))
    places = np.arange(len(names))
    for panel, (name, heading) in zip(axes, known, strict=True):
        figures = [f"intervention/{name}/{k}" for k in places]
        panel.errorbar(
            [diagnosis.figures.get(figure, np.nan) for figure in figures],
            places,
            xerr=[diagnosis.figures.get(f"{figure}_se", 0.0) for figure in figures],
            fmt="o",
            color=COLOURS[0],
            markersize=6,
            elinewidth=1.2,
        )
        panel.set_xlabel(heading)
        panel.set_yticks(places, names if panel is axes[0] else [])
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.margins(x=0.2)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=3))
    axes[0].set_ylabel(strategy_axis(diagnosis.subject))
    return figure
