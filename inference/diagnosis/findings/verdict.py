"""Whether z is used, weakly used, collapsed, or whether that cannot be told: what other checks stand on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...evaluation.use import USED, WEAK
from ..diagnostic import Diagnosis
from .evidence import Estimate, estimate

BIT = math.log(2)
"""What tells two kinds of response apart, in nats: the ceiling where z has no finite support.

Such a z has no entropy to be measured by, and that of the responses grows with their length; a latent that tells one
bit of a page has not collapsed.
"""

NOTHING = 0.05
"""A ceiling, in nats, under which there is nothing to tell: the entropy of a choice of 99 to 1."""


@dataclass(frozen=True)
class Verdict:
    """What z tells, beside what it could tell.

    Attributes:
        information: ``I(z; y|x)`` in nats per sequence.
        ceiling: what it can be, in nats.
        word: ``used``, ``weak``, ``collapsed``, or ``unknown`` where the data do not tell collapse from use.
    """

    information: Estimate
    ceiling: float
    word: str

    @property
    def share(self) -> Estimate:
        """Of the ceiling."""
        return self.information.over(self.ceiling)


def verdict(diagnosis: Diagnosis) -> Verdict | None:
    """The verdict of the evaluation where it is beyond its error; None where the figures are not there.

    Used from half of the ceiling, weak from a twentieth (``docs/evaluation.md``). Where z is not enumerable the
    information is that of InfoNCE, which does not go by the guide: importance weights of a guide that is too narrow
    make information out of nothing.
    """
    information, ceiling = estimate(diagnosis, "use/mutual_information"), estimate(diagnosis, "use/ceiling")
    if information is None or ceiling is None:
        return None
    if diagnosis.subject.enumerable:
        return Verdict(information, ceiling.value, _word(information, ceiling.value))
    information = estimate(diagnosis, "information/infonce") or information
    most = min(ceiling.value, BIT)
    return Verdict(information, most, _word(information, most))


def in_use(diagnosis: Diagnosis) -> bool:
    """Whether there is something to be said of the strategies: z is used or weakly used."""
    found = verdict(diagnosis)
    return found is not None and found.word in ("used", "weak")


def _word(information: Estimate, ceiling: float) -> str:
    if ceiling < NOTHING:
        return "collapsed"
    weak, used = WEAK * ceiling, USED * ceiling
    if not information.above(weak) and not information.below(used):
        return "unknown"
    if information.value >= used:
        return "used"
    return "weak" if information.value >= weak and information.low > 0 else "collapsed"
