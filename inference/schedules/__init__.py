"""Weights over the steps of a fit; one schedule a file."""

from .constant import Constant
from .cosine import Cosine
from .cyclical import Cyclical
from .linear import Linear
from .piecewise import Piecewise
from .schedule import Schedule
from .until import Until

__all__ = ["Constant", "Cosine", "Cyclical", "Linear", "Piecewise", "Schedule", "Until"]
