"""Is the factorisation a good one: fidelity, use, meaning, skill."""

from .evaluate import Evaluation, evaluate
from .posteriors import Posteriors, posteriors

__all__ = ["Evaluation", "Posteriors", "evaluate", "posteriors"]
