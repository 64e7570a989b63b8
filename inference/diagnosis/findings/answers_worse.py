"""Answers that the base gets right come out wrong."""

from __future__ import annotations

import math

from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import Estimate, estimate, percent

WEIGHT = 0.75

WORSE = 0.02
"""Loss of accuracy that is let pass."""

CHANGE = (
    "Stay closer to the base, `inference=base_fidelity`, or ask for less information, `inference=marginal "
    "inference.terms.information.weight=0.05 inference.terms.readable_information.weight=0.2` (defaults 0.12 and "
    "0.48), or fit longer, `fit.steps=2000`."
)


def answers_worse(diagnosis: Diagnosis) -> Finding | None:
    """The accuracy with z from the router is below the base's, on a task that tells right answers."""
    ours, base = estimate(diagnosis, "skill/accuracy"), estimate(diagnosis, "skill/accuracy_base")
    if ours is None or base is None:
        return None
    lost = Estimate(base.value - ours.value, math.hypot(base.error, ours.error))
    if not lost.above(WORSE):
        return None
    return Finding(
        "answers worse",
        WEIGHT,
        f"{percent(ours.value, 1)} of the answers with z from the router are right, of the base's own "
        f"{percent(base.value, 1)}: a loss of {lost.told()}.",
        "The strategies are meant to be the base's own; some of what they say is not.",
        CHANGE,
    )
