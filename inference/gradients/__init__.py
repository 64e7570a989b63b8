"""How an expectation is differentiated; one estimator a file."""

from .exact import Exact
from .gradient import Gradient
from .held import Held
from .pathwise import Pathwise

__all__ = ["Exact", "Gradient", "Held", "Pathwise"]
