"""The picture of a comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .comparison import Row
from .figures import write_figure

COLUMNS = 4
"""Panels beside each other."""

BLUE, ORANGE = (sns.color_palette("colorblind")[i] for i in (0, 3))
RUN: dict[str, Any] = {"color": BLUE, "marker": "o", "size": 6, "alpha": 0.7}
MEDIAN: dict[str, Any] = {"color": ORANGE, "marker": "|", "size": 16, "linewidth": 2.5}


@dataclass(frozen=True)
class Axis:
    """What is shown of a figure.

    Attributes:
        figure: its name.
        heading: its name in words.
        unit: of its values; nothing for a plain number.
    """

    figure: str
    heading: str
    unit: str = ""


def write_picture(path: Path, rows: Sequence[Row], axes: Sequence[Axis]) -> None:
    """The picture as ``.png`` and ``.svg``, its path given without an ending."""
    write_figure(path, picture(rows, axes))


def picture(rows: Sequence[Row], axes: Sequence[Axis]) -> Figure:
    """A panel for each figure that any run has: a point for each run and the median of each row.

    Args:
        rows: from top to bottom.
        axes: from left to right.
    """
    known = [axis for axis in axes if any(row.values(axis.figure) for row in rows)]
    labels = [textwrap.fill(row.label, 48, break_on_hyphens=False) for row in rows]
    across = min(COLUMNS, len(known))
    down = -(-len(known) // across)
    with sns.axes_style("whitegrid"):
        size = (3.5 + 2.4 * across, 0.5 + down * (0.9 + 0.4 * len(rows)))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False).flat
    for panel, axis in zip(panels, known, strict=False):
        values = {label: row.values(axis.figure) for label, row in zip(labels, rows, strict=True)}
        points = [(label, value) for label, found in values.items() for value in found]
        middles = [(label, median(found)) for label, found in values.items() if found]
        for marks, style in ((points, RUN), (middles, MEDIAN)):
            names, x = zip(*marks, strict=True)
            sns.stripplot(x=x, y=names, order=labels, orient="h", jitter=False, ax=panel, **style)
        panel.set_xlabel(f"{axis.heading} ({axis.unit})" if axis.unit else axis.heading)
        panel.set_ylabel("")
        panel.grid(axis="y", visible=True, linewidth=0.5)
        panel.margins(x=0.1)
        panel.locator_params(axis="x", nbins=4)
    for panel in panels[len(known) :]:
        panel.remove()
    keys = [
        Line2D([], [], color=style["color"], marker=style["marker"], markeredgewidth=2, linestyle="")
        for style in (RUN, MEDIAN)
    ]
    figure.legend(keys, ["a run", "median"], loc="outside upper right", ncols=2, frameon=False)
    return figure
