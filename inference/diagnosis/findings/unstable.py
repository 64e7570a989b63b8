"""Every restart finds other strategies."""

from __future__ import annotations

from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import estimate
from .values import override
from .verdict import in_use

WEIGHT = 0.6

AGREED = 0.5
"""Adjusted mutual information of two runs' z from which they have found the same: 1 is all, 0 is chance."""

CHANGE = (
    "Start every run from the same kind of clusters, `inference=marginal`, or choose the best of several random "
    "starts, `inference=marginal ~inference.terms.distillation fit.starts=3`. Fewer strategies leave fewer ways "
    "to cut the responses"
)


def unstable(diagnosis: Diagnosis) -> Finding | None:
    """The mean agreement of the runs, two by two, is below a half."""
    found = estimate(diagnosis, "stability/runs")
    if found is None or not in_use(diagnosis) or not found.below(AGREED):
        return None
    router = diagnosis.subject.seen.router
    fewer = None if router is None else override(diagnosis.subject, router.shape[1] // 2)
    least = estimate(diagnosis, "stability/runs_least")
    return Finding(
        "unstable between restarts",
        WEIGHT,
        f"On the same data the z of two runs have an adjusted mutual information of {found.told()} in the mean"
        + ("" if least is None else f", and {least.value:.2f} for the two runs that agree least")
        + " (0 by chance, 1 at most).",
        "The likelihood does not prefer one way of cutting the responses over the other: what z stands for in "
        "this run is an accident of its seed.",
        f"{CHANGE}{f', {fewer}' if fewer else ''}.",
    )
