"""The diagnostics, one a file."""

from ..diagnostic import Diagnostic
from .calibration import calibration
from .dimensions import dimensions
from .importance import importance
from .information import information
from .intervention import intervention
from .meaning import meaning
from .position import position
from .stability import across, stability
from .surface import surface
from .usage import usage

DIAGNOSTICS: tuple[Diagnostic, ...] = (
    usage,
    information,
    dimensions,
    importance,
    calibration,
    meaning,
    intervention,
    surface,
    stability,
    position,
)
"""In the order in which they are run."""

__all__ = ["DIAGNOSTICS", "across"]
