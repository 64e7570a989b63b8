"""Values of z that say the same."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse.csgraph import connected_components

from ...evaluation.use import WEAK
from ..diagnostic import Diagnosis
from ..finding import Finding
from .dead import dead_values
from .each_latent import acting
from .evidence import SURE, listed
from .values import fewer, value_names
from .verdict import in_use

WEIGHT = 0.55

MOST = math.log(2)
"""The Jensen-Shannon divergence of two laws that have nothing in common, in nats."""


def duplicates(diagnosis: Diagnosis) -> Finding | None:
    """Living values whose laws of the response differ by less than a twentieth of what two laws can."""
    divergence = diagnosis.curves.get("intervention/divergence")
    if divergence is None or not diagnosis.subject.enumerable or not in_use(diagnosis):
        return None
    error = diagnosis.curves.get("intervention/divergence_se", np.zeros_like(divergence))
    same = np.nan_to_num(divergence + SURE * error, nan=np.inf) < WEAK * MOST
    gone = dead_values(diagnosis.subject)
    same[gone] = same[:, gone] = False
    count, labels = connected_components(same, directed=False)
    acts = acting(diagnosis)
    groups = [
        members for label in range(count) if len(set(acts[members := np.flatnonzero(labels == label)])) > 1
    ]
    if not groups:
        return None
    widest = max(float(divergence[np.ix_(group, group)].max()) for group in groups)
    names = [listed(value_names(diagnosis.subject, group.tolist())) for group in groups]
    return Finding(
        "duplicate strategies",
        WEIGHT,
        f"{'; '.join(names)}: the laws of their responses have a Jensen-Shannon divergence of at most "
        f"{widest:.3f} nats, where laws with nothing in common have {MOST:.2f}.",
        "Which of them a response is assigned to is arbitrary, and another seed will assign it otherwise.",
        f"{fewer(diagnosis.subject, 'Merge', count - len(gone))} Or push them apart, `inference=marginal "
        "inference.terms.information.weight=0.3` (default 0.12).",
    )
