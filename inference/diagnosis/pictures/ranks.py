"""Simulation-based calibration: where the true z lies among what is inferred of it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binom

from ..diagnostic import Diagnosis
from .style import COLOURS, INK, panels, styled


@styled
def ranks(diagnosis: Diagnosis) -> Figure | None:
    """The ranks of z among the guide's draws, z and y being drawn from the model itself.

    The band holds 95 % of the counts of uniform ranks, bin by bin [Talts et al. 2018, section 4.1].
    """
    counts = np.asarray(diagnosis.curves.get("calibration/sbc", ()), float)
    if not counts.sum():
        return None
    total, bins = int(counts.sum()), len(counts)
    low, high = binom.interval(0.95, total, 1 / bins)
    figure, (panel,) = panels(1, height=4)
    panel.axhspan(low, high, color=COLOURS[7], alpha=0.3, linewidth=0, label="95 % of uniform ranks")
    panel.axhline(total / bins, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.bar((np.arange(bins) + 0.5) / bins, counts, width=0.9 / bins, color=COLOURS[0])
    panel.set(xlim=(0, 1), ylim=(0, 1.1 * max(high, counts.max())))
    panel.set(xlabel="rank of the true z among draws of the guide (share)", ylabel="draws of z and y")
    panel.grid(axis="x", visible=False)
    figure.legend(loc="outside upper left")
    return figure
