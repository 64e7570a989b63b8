"""Is a cut of the responses to some prompts found again on others?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cut import Cut, agreement
from .spaces import Sample

FindCuts = Callable[[Sample], Sequence[Cut]]
"""From responses to rival cuts of them."""

FEWEST = 64
"""Prompts below which half of them say too little: cuts that are right are not found again."""


def found_again(find: FindCuts, sample: Sample) -> float:
    """Adjusted mutual information, on all data, of a cut found on half of the prompts and one found on the others.

    The largest of any two, where rival cuts are found. What is there in the data is found on either half, and what
    was made of their noise is not [stability of clusterings, Ben-Hur, Elisseeff & Guyon 2002].

    Args:
        find: what finds them.
        sample: the responses.
    """
    first, second = ([cut(sample.features) for cut in find(half)] for half in sample.halves)
    return max(agreement(one, other) for one in first for other in second)
