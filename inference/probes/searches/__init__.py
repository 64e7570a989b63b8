"""Searches for the point of the largest reward, of several problems at once; one a file."""

from .evolution import Evolution
from .search_step import SearchStep
from .smoothed_gradient import SmoothedGradient

__all__ = ["Evolution", "SearchStep", "SmoothedGradient"]
