"""Is the factorisation a good one: fidelity, use, meaning, skill."""

from .evaluate import Evaluation, evaluate
from .position import Positions, position
from .posteriors import Posteriors, posteriors

__all__ = ["Evaluation", "Positions", "Posteriors", "evaluate", "position", "posteriors"]
