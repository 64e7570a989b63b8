"""Whether a response shows the strategy that it was generated under."""

from __future__ import annotations

from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from .strategies import strategy_names
from .style import matrix, panels, styled


@styled
def self_consistency(diagnosis: Diagnosis) -> Figure | None:
    """Row: the strategy that was forced; column: the mean posterior of the strategies given what came of it."""
    values = diagnosis.curves.get("intervention/confusion")
    if values is None:
        return None
    figure, (panel,) = panels(1, height=4.2)
    matrix(panel, values, strategy_names(diagnosis.subject))
    panel.set_xlabel("strategy inferred: mean p(z|x,y)")
    panel.set_ylabel("strategy forced: y ~ p(y|x, do(z))")
    return figure
