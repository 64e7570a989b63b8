"""Weights over the steps of a fit; one schedule a file."""

from .constant import Constant, finite, scheduled
from .cosine import Cosine
from .cyclical import Cyclical
from .linear import Linear
from .piecewise import Piecewise
from .schedule import HUNDREDTHS, Schedule
from .until import Until

__all__ = [
    "HUNDREDTHS",
    "Constant",
    "Cosine",
    "Cyclical",
    "Linear",
    "Piecewise",
    "Schedule",
    "Until",
    "finite",
    "scheduled",
]
