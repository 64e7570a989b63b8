"""Colours, type and frames that the pictures share.

Colours are few and of one hand, so that the report can replace each by its own for a dark page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Literal

import matplotlib as mpl
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ..diagnostic import Diagnosis

INK, LINE = "#262626", "#cccccc"
"""Of text and marks, and of frames and grids; as in seaborn's styles."""

COLOURS: tuple[str, ...] = tuple(
    sns.color_palette("colorblind").as_hex()[place] for place in (0, 3, 2, 4, 5, 9, 1, 7)
)
"""Told apart by the colour-blind, in print and on a dark page; the blue first."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One for each colour, so that neither is needed alone."""

SHADES = LinearSegmentedColormap.from_list("shades", [f"{COLOURS[0]}00", f"{COLOURS[0]}ff"])
"""From nothing at 0 to the blue at 1: the page, light or dark, shows through."""

NARROW, WIDE = 5.4, 11.0
"""Widths in inches of a picture that takes half of a page, and of one that takes all of it."""

UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

STYLE = {
    **sns.axes_style("whitegrid"),
    "text.color": INK,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "patch.linewidth": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


def styled(draw: Callable[[Diagnosis], Figure | None]) -> Callable[[Diagnosis], Figure | None]:
    """The same picture drawn in this style, whatever matplotlib's settings are."""

    @wraps(draw)
    def within(diagnosis: Diagnosis) -> Figure | None:
        with mpl.rc_context(STYLE):
            return draw(diagnosis)

    return within


def panels(
    across: int, width: float = NARROW, height: float = 3.3, down: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of panels, row by row, with tick labels that keep their look wherever it is written."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for panel in axes:
        panel.tick_params(labelsize=STYLE["xtick.labelsize"], colors=INK, length=0, pad=5)
    return figure, axes


def shown(text: str) -> str:
    """Text with a mark for each character that can be shown nowhere: controls and halves of pairs."""
    return UNSHOWN.sub("\ufffd", text)


def plain(text: str) -> str:
    """Text of a user's for a label: taken as it is, without mathematics."""
    return shown(text).replace("$", r"\$")


def matrix(panel: Axes, values: np.ndarray, names: list[str], top: float = 1.0) -> None:
    """A shaded matrix ``(P, P)`` with a number in each cell where there is room.

    Args:
        panel: where.
        values: from 0.
        names: of rows and columns.
        top: the value of the full shade.
    """
    shade(panel, values, top, numbers=len(names) <= 10)
    places = range(len(names))
    sparse = 1 + len(names) // 16
    panel.set_xticks(places[::sparse], names[::sparse])
    panel.set_yticks(places[::sparse], names[::sparse])


def shade(
    panel: Axes,
    values: np.ndarray,
    top: float = 1.0,
    numbers: bool = True,
    aspect: Literal["equal", "auto"] = "equal",
) -> None:
    """Shaded cells ``(R, C)``.

    Args:
        panel: where.
        values: from 0.
        top: the value of the full shade.
        numbers: whether each cell has its number.
        aspect: ``equal`` for square cells, ``auto`` for cells that fill the panel.
    """
    panel.imshow(values, cmap=SHADES, vmin=0, vmax=top, interpolation="none", aspect=aspect)
    panel.grid(visible=False)
    panel.spines[:].set_visible(True)
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            full = value > 0.8 * top
            colour = "#ffffff" if full else INK
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, size=8.5)
