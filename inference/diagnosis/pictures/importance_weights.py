"""How far the importance weights of the guide's draws can be trusted."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from ..findings.heavy_tails import HEAVY
from .style import COLOURS, INK, NARROW, panels, styled


@styled
def importance_weights(diagnosis: Diagnosis) -> Figure | None:
    """The shapes of the tails and the effective sample sizes, a datum each; a shape only where there is a tail."""
    shape = np.asarray(diagnosis.per_datum.get("pareto_k", ()), float)
    share = np.asarray(diagnosis.per_datum.get("ess", ()), float)
    tails = np.isfinite(shape).any()
    count = int(tails) + bool(len(share))
    if not count:
        return None
    figure, axes = panels(count, NARROW, 3.3)
    if tails:
        _counts(axes[0], shape[np.isfinite(shape)], "Pareto shape k of the weights")
        axes[0].axvline(HEAVY, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes[0].set_title(f"k > {HEAVY}: {(shape > HEAVY).sum()} of {len(shape)} data")
    if len(share):
        _counts(axes[-1], share, "effective share of the draws")
        axes[-1].set_xlim(0, 1.02)
        axes[-1].set_title(f"median {np.median(share):.2f}")
    axes[0].set_ylabel("held-out data")
    return figure


def _counts(panel: Axes, values: np.ndarray, heading: str) -> None:
    low, high = values.min(), values.max()
    bins = np.linspace(low, high, 25) if high - low > 1e-3 else np.linspace(low - 0.02, high + 0.02, 5)
    sns.histplot(x=values, ax=panel, color=COLOURS[0], alpha=1, bins=bins, linewidth=0)
    panel.set(xlabel=heading, ylabel="")
