"""Whether probabilities of z are frequencies."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..diagnostic import Diagnosis
from .style import COLOURS, INK, MARKERS, panels, styled

CURVES = (("calibration/router", "router p(z|x)"), ("calibration/posterior", "guide q(z|x,y)"))


@styled
def calibration(diagnosis: Diagnosis) -> Figure | None:
    """Reliability of router and guide: frequency against prediction, with standard errors of a frequency."""
    known = [(curve, label) for curve, label in CURVES if curve in diagnosis.curves]
    if not known:
        return None
    figure, (panel,) = panels(1, height=4)
    panel.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    keys = []
    for (curve, label), colour, marker in zip(known, COLOURS, MARKERS, strict=False):
        rows = np.asarray(diagnosis.curves[curve], float)
        predicted, frequency, count = rows[:, rows[2] > 0]
        error = np.sqrt(np.clip(frequency * (1 - frequency), 0, None) / count)
        panel.errorbar(predicted, frequency, yerr=error, fmt="-", color=colour, elinewidth=1, linewidth=1)
        size = 12 + 90 * count / count.max()
        panel.scatter(predicted, frequency, s=size, color=colour, marker=marker, zorder=3)
        keys.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=label))
    panel.set(
        xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xlabel="predicted probability", ylabel="observed frequency"
    )
    figure.legend(handles=keys, loc="outside upper left", ncols=2)
    return figure
