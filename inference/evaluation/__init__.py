"""Is the factorisation a good one: fidelity, use, meaning, skill."""

from .evaluate import Evaluation, evaluate, on_base
from .position import Positions, position
from .posteriors import Posteriors, posteriors

__all__ = ["Evaluation", "Positions", "Posteriors", "evaluate", "on_base", "position", "posteriors"]
