"""p(z|x), the choice of strategy; one form a file."""

from .mixture import MixturePrior
from .pooled import PooledRouter
from .prior import LearnedPrior, UniformPrior
from .router import GroupedRouter, Router
from .token import TokenRouter
from .vamp import VampPrior

__all__ = [
    "GroupedRouter",
    "LearnedPrior",
    "MixturePrior",
    "PooledRouter",
    "Router",
    "TokenRouter",
    "UniformPrior",
    "VampPrior",
]
