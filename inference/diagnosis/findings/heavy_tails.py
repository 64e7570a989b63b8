"""Importance weights of which a few are everything."""

from __future__ import annotations

import math

from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import estimate, percent, share_of

WEIGHT = 0.35

HEAVY = 0.7
"""Shape k of the tail from which importance-weighted estimates cannot be trusted [Vehtari et al. 2024, section 3.1]."""

SHARE = 0.25
"""Of the data whose k may be above that by chance.

k is estimated from the dozen largest of 64 weights: where all have k = 0.5, the last with a finite variance, a fifth of
the estimates are above 0.7, and where all have 0.7 a third.
"""

CHANGE = (
    "Fit the guide by a divergence that makes it cover the posterior, `inference=wake_wake "
    "inference.expectation.num_particles=16` or `inference=forward_chi_square`, or let it read more of the "
    "response, `guide.pooling=attention guide.width=128`."
)


def heavy_tails(diagnosis: Diagnosis) -> Finding | None:
    """More than a quarter of the data have weights with k > 0.7."""
    found = estimate(diagnosis, "posterior/pareto_k_bad")
    if found is None:
        return None
    count = len(diagnosis.subject.data)
    share = share_of(found.value, count)
    if not share.above(SHARE):
        return None
    worst = diagnosis.figure("posterior/pareto_k_max")
    return Finding(
        "heavy-tailed weights",
        WEIGHT,
        f"The importance weights of {percent(share.value)} of the {count} responses have a Pareto shape k above "
        f"{HEAVY}" + (f", at worst {worst:.2f}." if worst is not None and math.isfinite(worst) else "."),
        "A few draws of the guide carry almost all of the weight, mostly because the guide is narrower than the "
        "posterior: log p(y|x), fidelity and what else is importance-weighted is less certain than its standard "
        "error says.",
        CHANGE,
    )
