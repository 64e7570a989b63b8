"""How far the output laws of the strategies are from each other."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from .strategies import strategy_axis, strategy_names
from .style import matrix, panels, styled


@styled
def divergence(diagnosis: Diagnosis) -> Figure | None:
    """Jensen-Shannon divergence of p(y|x,z) between any two strategies; its most is log 2."""
    values = diagnosis.curves.get("intervention/divergence")
    if values is None:
        return None
    figure, (panel,) = panels(1, height=4.2)
    matrix(panel, values, strategy_names(diagnosis.subject), top=math.log(2))
    panel.set_xlabel(strategy_axis(diagnosis.subject))
    panel.set_ylabel(strategy_axis(diagnosis.subject))
    panel.set_title("Jensen-Shannon divergence (nats per sequence, at most 0.69)")
    return figure
