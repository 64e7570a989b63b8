"""Which coordinates of continuous latents carry something."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..diagnostic import Diagnosis
from .style import COLOURS, INK, NARROW, WIDE, panels, plain, styled

PREFIX = "dimension/kl/"


@styled
def dimensions(diagnosis: Diagnosis) -> Figure | None:
    """KL(q || router) of each coordinate of each latent, the largest first."""
    known = {
        name: np.atleast_1d(curve) for name, curve in diagnosis.curves.items() if name.startswith(PREFIX)
    }
    if not known:
        return None
    figure, axes = panels(len(known), NARROW if len(known) == 1 else WIDE, 3.3)
    for panel, (name, curve) in zip(axes, known.items(), strict=True):
        order = np.argsort(-curve, kind="stable")
        errors = [diagnosis.figures.get(f"{name}/{d}_se", 0.0) for d in order]
        panel.bar(range(len(curve)), curve[order], color=COLOURS[0], width=0.8)
        panel.errorbar(range(len(curve)), curve[order], yerr=errors, fmt="none", color=INK, elinewidth=1)
        site = name.removeprefix(PREFIX)
        panel.set_xlabel(f"coordinate of {plain(site)}, the largest first")
        panel.set_ylabel("KL(q(z|x,y) || p(z|x)) (nats)")
        panel.set_title(f"{curve.sum():.2f} nats in all")
        if len(curve) <= 16:
            panel.set_xticks(range(len(curve)), [str(d) for d in order])
        else:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(axis="x", visible=False)
    return figure
