"""How many parts does it take to tell responses to one prompt apart?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cut import Cut, apart
from .spaces import Sample


def fewest_parts(find: Callable[[int], Sequence[Cut]], sample: Sample, most: int, enough: float) -> int:
    """The least number of parts that tells responses to one prompt :func:`~.cut.apart` about as well as any does.

    Parts beyond the number of strategies tell no further responses to a prompt apart. They part the prompts instead:
    each is then one strategy here and another there. Where every response says something else, each further part tells
    more apart, and none is left over.

    Args:
        find: from a number of parts to rival cuts.
        sample: the responses.
        most: parts, at least 2.
        enough: share of what the best number tells apart that is enough.
    """
    told = {
        parts: max(apart(cut(sample.features), sample.contents, sample.pairs) for cut in find(parts))
        for parts in range(2, most + 1)
    }
    return next(parts for parts, share in told.items() if share >= enough * max(told.values()))
