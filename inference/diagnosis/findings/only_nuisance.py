"""What z stands for is a mark and not a way of answering."""

from __future__ import annotations

from ...evaluation.position import DECODED
from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import estimate, percent, share_of
from .values import override
from .verdict import in_use

WEIGHT = 0.65

EARLY = 0.9
"""Share of the information that comes with one token, from which z is a choice of that token.

Of a strategy that begins with a word of its own it is up to 0.88, of a mark all.
"""

TWINS = 0.5
"""Share of the values that have a twin, as they have where z is a strategy and a mark of two."""

START = (
    "Start from clusters that leave out what does not depend on the prompt, `inference=marginal`. If that was "
    "the fit, give less weight to information, which cannot tell a mark from a strategy, `inference=marginal "
    "inference.terms.information.weight=0.05` (default 0.12)"
)
MERGE = (
    "; or take more values than there are strategies, {values}, and merge those that differ by a mark, "
    "`stratagem prune run=DIR`"
)


def only_nuisance(diagnosis: Diagnosis) -> Finding | None:
    """By the known nuisance where there is one, else by values that answer alike but for one symbol."""
    if not in_use(diagnosis):
        return None
    seen = _known(diagnosis) if "meaning/nuisance_ami" in diagnosis.figures else _unknown(diagnosis)
    if seen is None:
        return None
    router = diagnosis.subject.seen.router
    more = None if router is None else override(diagnosis.subject, 2 * router.shape[1])
    return Finding(
        "nuisance strategies",
        WEIGHT,
        seen,
        "Such a z splits responses by a surface choice, a separator or a first word, and is as informative as a "
        "strategy would be; how the answer is found does not change with it.",
        f"{START}{MERGE.format(values=more) if more else ''}.",
    )


def _known(diagnosis: Diagnosis) -> str | None:
    mark, strategy = estimate(diagnosis, "meaning/nuisance_ami"), estimate(diagnosis, "meaning/ami")
    if mark is None or mark.value < DECODED:
        return None
    beside = "" if strategy is None else f", with the known strategy {strategy.value:.2f}"
    return (
        f"The adjusted mutual information of z with the known nuisance is {mark.value:.2f}{beside} (0 by "
        "chance, 1 at most)."
    )


def _unknown(diagnosis: Diagnosis) -> str | None:
    """Where at least half of the values have a twin that answers alike but for one symbol."""
    same, early = (
        estimate(diagnosis, "intervention/substitution_share"),
        estimate(diagnosis, "position/single_token"),
    )
    router = diagnosis.subject.seen.router
    if same is None or early is None or router is None:
        return None
    values, count = router.shape[1], len(diagnosis.subject.data)
    share = same if same.error else share_of(same.value, count)
    if not share.above(TWINS / (values - 1)) or early.value < EARLY:
        return None
    return (
        f"{percent(same.value)} of the pairs of greedy responses under different z become the same when one "
        f"symbol is replaced throughout, and {percent(early.value)} of the information about z comes with a "
        "single token."
    )
