"""Weights over the steps of a fit; one schedule a file."""

from .constant import Constant
from .linear import Linear
from .schedule import Schedule

__all__ = ["Constant", "Linear", "Schedule"]
