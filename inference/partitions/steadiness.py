"""Is a cut of the responses to some prompts found again on others?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .cut import Cut, agreement

FindCuts = Callable[[Tensor, Tensor, Tensor], Sequence[Cut]]
"""From features, pairs and contents, as of :func:`~.cut.rival_cuts`, to rival cuts."""

FEWEST = 64
"""Prompts below which half of them say too little: cuts that are right are not found again."""


def found_again(
    find: FindCuts,
    features: Tensor,
    pairs: Tensor,
    contents: Tensor,
    responses: int,
) -> float:
    """Adjusted mutual information, on all data, of a cut found on half of the prompts and one found on the others.

    The largest of any two, where rival cuts are found. What is there in the data is found on either half, and what
    was made of their noise is not [stability of clusterings, Ben-Hur, Elisseeff & Guyon 2002].

    Args:
        find: what finds them.
        features: ``(N, size)``, the responses to a prompt beside each other.
        pairs: ``(Q, 2)`` places of two responses to one prompt.
        contents: ``(N,)``, what each says.
        responses: to each prompt.
    """
    middle = len(features) // responses // 2 * responses
    halves = []
    for begin, end in ((0, middle), (middle, len(features))):
        inside = (pairs[:, 0] >= begin) & (pairs[:, 0] < end)
        found = find(features[begin:end], pairs[inside] - begin, contents[begin:end])
        halves.append([cut(features) for cut in found])
    first, second = halves
    return max(agreement(one, other) for one in first for other in second)
