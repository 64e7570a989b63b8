"""The Pyro guides: q(z|x,y)."""

from .amortized import AmortizedGuide
from .annotated import AnnotatedGuide
from .autoregressive import AutoregressiveGuide
from .encoder import EncoderGuide
from .exact import ExactGuide
from .flow import FlowGuide
from .origin import OriginGuide
from .reading import ReadingGuide
from .refined import RefinedGuide
from .semi_amortised import SemiAmortisedGuide

__all__ = [
    "AmortizedGuide",
    "AnnotatedGuide",
    "AutoregressiveGuide",
    "EncoderGuide",
    "ExactGuide",
    "FlowGuide",
    "OriginGuide",
    "ReadingGuide",
    "RefinedGuide",
    "SemiAmortisedGuide",
]
