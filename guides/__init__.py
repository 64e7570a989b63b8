"""The Pyro guides: q(z|x,y)."""

from .amortized import AmortizedGuide
from .encoder import EncoderGuide
from .exact import ExactGuide
from .flow import FlowGuide
from .reading import ReadingGuide

__all__ = ["AmortizedGuide", "EncoderGuide", "ExactGuide", "FlowGuide", "ReadingGuide"]
