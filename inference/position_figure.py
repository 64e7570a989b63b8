"""The picture of what the first tokens of a response tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

BLUE, ORANGE, GREEN = (sns.color_palette("colorblind")[i] for i in (0, 3, 2))
LATENT: dict[str, Any] = {"color": BLUE, "marker": "o"}
STRATEGY: dict[str, Any] = {"color": ORANGE, "marker": "s"}
NUISANCE: dict[str, Any] = {"color": GREEN, "marker": "^"}

PANELS = (
    (
        "information of a prefix (nats)",
        0.0,
        (
            ("strategy_information", "the strategy, by the task's law", STRATEGY),
            ("nuisance_information", "the nuisance, by the task's law", NUISANCE),
            ("information", "the latent", LATENT),
        ),
    ),
    (
        "adjusted mutual information\nof the likeliest z (0 to 1)",
        1.0,
        (("strategy_ami", "with the strategy", STRATEGY), ("nuisance_ami", "with the nuisance", NUISANCE)),
    ),
    (
        "probability of the likeliest\nchoice by the task's law",
        1.0,
        (
            ("strategy_certainty", "the strategy", STRATEGY),
            ("nuisance_certainty", "the nuisance", NUISANCE),
        ),
    ),
)
"""Of each panel the heading of its axis, the least of its top and its curves: column, name and style."""


def position_picture(columns: Mapping[str, Tensor]) -> Figure:
    """A panel for each quantity that is known, over the tokens read; the band is a standard error either way.

    Args:
        columns: of :class:`.evaluation.Positions`.
    """
    known = [
        (heading, top, [curve for curve in curves if curve[0] in columns])
        for heading, top, curves in PANELS
        if any(curve[0] in columns for curve in curves)
    ]
    tokens = columns["tokens"].numpy()
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(4.6 * len(known), 4.2), layout="constrained")
        panels = figure.subplots(1, len(known), sharex=True, squeeze=False)[0]
    for panel, (heading, top, curves) in zip(panels, known, strict=True):
        for name, label, style in curves:
            middle = columns[name].numpy()
            sns.lineplot(x=tokens, y=middle, ax=panel, label=label, errorbar=None, markersize=5, **style)
            if f"{name}_se" in columns:
                error = columns[f"{name}_se"].numpy()
                panel.fill_between(tokens, middle - error, middle + error, color=style["color"], alpha=0.2)
        panel.set_xlabel("response read (tokens)")
        panel.set_ylabel(heading)
        panel.set_ylim(min(0.0, panel.get_ylim()[0]), max(top, panel.get_ylim()[1]))
        panel.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize="small")
    return figure
