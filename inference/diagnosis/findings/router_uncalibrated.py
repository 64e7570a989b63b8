"""The router's probabilities are not frequencies."""

from __future__ import annotations

from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import estimate
from .verdict import in_use

WEIGHT = 0.3

OFF = 0.05
"""Expected calibration error, a difference of probabilities, from which a router's probabilities are wrong."""

CHANGE = (
    "Let the router read more of the prompt, `router=pooled router.pooling=attention router.width=256`, or give "
    "it weights of its own, `role@roles.router=lora`. Let it learn faster, `optim.lr.router=0.01` (default "
    "0.003), or longer, `fit.steps=2000`. A fixed router, `router=uniform`, has to be replaced by a learned one."
)


def router_uncalibrated(diagnosis: Diagnosis) -> Finding | None:
    """The expected calibration error of p(z|x) against the posterior is above a twentieth."""
    found = estimate(diagnosis, "calibration/router_ece")
    if found is None or not in_use(diagnosis) or not found.above(OFF):
        return None
    return Finding(
        "router uncalibrated",
        WEIGHT,
        f"The router's p(z|x) and the frequency of z in the base's responses differ by {found.told()} in the mean "
        "(expected calibration error, 0 to 1).",
        "With z drawn from the router, strategies appear more or less often than the base uses them, and p(z|x) "
        "is a poor guide to which z suits a prompt.",
        CHANGE,
    )
