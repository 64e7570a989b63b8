"""Values of z that no response has."""

from __future__ import annotations

from ...evaluation.statistics import mean_se
from ..diagnostic import Diagnosis
from ..finding import Finding
from ..subject import Subject
from .evidence import Estimate, listed, percent, plural
from .values import fewer, value_names
from .verdict import in_use

WEIGHT = 0.5

DEAD = 0.1
"""Share of 1/P below which a value is dead, as ``stratagem prune`` has it: with four values, one response in forty."""


def dead(diagnosis: Diagnosis) -> Finding | None:
    """Values whose share of the posterior is below a tenth of an equal one."""
    seen = diagnosis.subject.seen
    if seen.posterior is None or not in_use(diagnosis):
        return None
    gone = dead_values(diagnosis.subject)
    values = seen.posterior.shape[1]
    if not gone:
        return None
    names = value_names(diagnosis.subject, gone)
    shares = seen.posterior.double().mean(0)[gone]
    return Finding(
        "dead strategies",
        WEIGHT,
        f"{plural(len(gone), 'value')} of {values} ({listed(names)}) {'takes' if len(gone) == 1 else 'take'} at most "
        f"{percent(float(shares.max()), 1)} of the responses each, where an equal share is {percent(1 / values, 1)}.",
        "They explain no response of the base: what they would say is untrained, and forcing them shows nothing.",
        f"{fewer(diagnosis.subject, 'Drop', values - len(gone))} Or start each value from a cluster of its own, "
        "`inference=marginal`.",
    )


def dead_values(subject: Subject) -> list[int]:
    """Joint values that are dead for sure: by their share and its error, and by the router's too or enough data.

    Of N responses none of which has a value, it may still have 3/N [Hanley & Lippman-Hand 1983].
    """
    seen = subject.seen
    if seen.posterior is None or seen.router is None:
        return []
    count, values = seen.posterior.shape
    out = []
    for k in range(values):
        share = Estimate(*mean_se(seen.posterior[:, k]))
        allowed = float(seen.router[:, k].double().mean())
        bound = DEAD / values
        if share.below(bound) and (allowed < bound or 3 / count < bound):
            out.append(k)
    return out
