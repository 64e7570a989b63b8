"""What a picture is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from ..diagnostic import Diagnosis


class Picture(NamedTuple):
    """One picture of a diagnosis.

    Attributes:
        name: of its files.
        heading: its title.
        caption: what is seen and how it is read, in a sentence or three.
        draw: the figure; None where the readings that it shows are not there.
    """

    name: str
    heading: str
    caption: str
    draw: Callable[[Diagnosis], Figure | None]
