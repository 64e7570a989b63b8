"""Which strategy each datum was answered with."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.cluster.hierarchy import leaves_list, linkage

from ..diagnostic import Diagnosis
from .labels import named_groups
from .strategies import strategy_axis, strategy_names
from .style import COLOURS, LINE, SHADES, WIDE, panels, styled

ROWS = 400
"""Data shown at most."""


@styled
def responsibilities(diagnosis: Diagnosis) -> Figure | None:
    """``p(z|x,y)`` of each datum, like data side by side; above them the user's labels, where there are some.

    The order is that of an average-linkage clustering with the leaves in their best order. Of more than
    :data:`ROWS` data every n-th is shown.
    """
    subject = diagnosis.subject
    posterior = subject.seen.posterior
    if posterior is None or len(posterior) < 2:
        return None
    thin = np.arange(0, len(posterior), -(-len(posterior) // ROWS))
    values = posterior.double().numpy()[thin]
    order = clustered(values)
    names, groups = strategy_names(subject), named_groups(diagnosis.labels)
    figure, (panel,) = panels(1, WIDE, min(7.5, 1.3 + 0.3 * len(names)))
    image = panel.imshow(values[order].T, cmap=SHADES, vmin=0, vmax=1, aspect="auto", interpolation="none")
    sparse = 1 + len(names) // 32
    panel.set_yticks(range(0, len(names), sparse), names[::sparse])
    panel.set_xticks([])
    panel.grid(visible=False)
    panel.spines[:].set_visible(True)
    every = "" if len(thin) == len(posterior) else f"; {len(thin)} of {len(posterior)}, evenly taken"
    panel.set_xlabel(f"held-out data, clustered ({len(posterior)}{every})")
    panel.set_ylabel(strategy_axis(subject).replace(" (", "\n("))
    bar = figure.colorbar(image, ax=panel, label="p(z|x,y)", fraction=0.03, pad=0.01, ticks=[0, 0.5, 1])
    bar.outline.set_edgecolor(LINE)
    bar.ax.tick_params(length=0)
    if groups is not None:
        strip = panel.inset_axes((0, 1.04, 1, 0.12 if len(names) < 8 else 0.06))
        _strip(strip, groups.place[thin][order])
        strip.set_axis_off()
        keys = [Patch(color=COLOURS[i], label=name) for i, name in enumerate(groups.names)]
        figure.legend(handles=keys, loc="outside upper left", ncols=len(keys), handlelength=1)
    return figure


def _strip(panel: Axes, places: np.ndarray) -> None:
    """A bar for each run of data of one group, side by side."""
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    ends = np.append(starts[1:], len(places))
    colours = [COLOURS[place] for place in places[starts]]
    panel.broken_barh(list(zip(starts, ends - starts, strict=True)), (0, 1), color=colours, linewidth=0)
    panel.set(xlim=(0, len(places)), ylim=(0, 1))


def clustered(values: np.ndarray) -> np.ndarray:
    """An order of the rows of ``values`` ``(N, P)`` in which like rows are neighbours."""
    if len(values) < 3 or not np.ptp(values, axis=0).any():
        return np.arange(len(values))
    return np.asarray(leaves_list(linkage(values, "average", optimal_ordering=True)))
