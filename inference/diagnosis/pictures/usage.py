"""How much each strategy is used."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from .strategies import strategy_axis, strategy_names
from .style import COLOURS, INK, panels, styled


@styled
def usage(diagnosis: Diagnosis) -> Figure | None:
    """Mean probability of each strategy under router, exact posterior and guide, with standard errors."""
    seen = diagnosis.subject.seen
    laws = {
        "router p(z|x)": seen.router,
        "posterior p(z|x,y)": seen.posterior,
        "guide q(z|x,y)": seen.amortized,
    }
    known = {label: law.numpy() for label, law in laws.items() if law is not None}
    if not known:
        return None
    names = strategy_names(diagnosis.subject)
    data = len(diagnosis.subject.data)
    columns = {
        "strategy": np.tile(names, len(known) * data),
        "share": np.concatenate([law.ravel() for law in known.values()]),
        "law": np.repeat(list(known), data * len(names)),
    }
    figure, (panel,) = panels(1)
    sns.barplot(
        columns,
        x="strategy",
        y="share",
        hue="law",
        palette=[COLOURS[7], COLOURS[0], COLOURS[1]],
        saturation=1,
        errorbar="se",
        err_kws={"color": INK, "linewidth": 1},
        ax=panel,
    )
    panel.axhline(1 / len(names), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.annotate(
        "even", (1, 1 / len(names)), (3, 0), panel.get_yaxis_transform(), "offset points", va="center"
    )
    panel.set_xlabel(strategy_axis(diagnosis.subject))
    panel.set_ylabel("mean probability")
    panel.set_ylim(0)
    sparse = 1 + len(names) // 16
    panel.set_xticks(range(0, len(names), sparse), names[::sparse])
    sns.move_legend(panel, "lower left", bbox_to_anchor=(0, 1), ncols=3, title=None, columnspacing=1.2)
    return figure
