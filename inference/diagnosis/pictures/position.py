"""How early z can be read from the response."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from ...position_figure import position_picture
from ..diagnostic import Diagnosis
from .style import NARROW, WIDE, styled


@styled
def position(diagnosis: Diagnosis) -> Figure | None:
    """The curves of ``stratagem position``."""
    columns = {
        name.removeprefix("position/"): torch.as_tensor(curve)
        for name, curve in diagnosis.curves.items()
        if name.startswith("position/")
    }
    if not {"tokens", "information"} <= set(columns):
        return None
    figure = position_picture(columns)
    figure.set_size_inches(NARROW if len(figure.axes) == 1 else WIDE, 3.6)
    return figure
