"""The Pyro guides: q(z|x,y)."""

from .amortized import AmortizedGuide
from .exact import ExactGuide

__all__ = ["AmortizedGuide", "ExactGuide"]
