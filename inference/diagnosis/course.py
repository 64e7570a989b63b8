"""How the held-out figures went while the run was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

KEPT = ("bound", "kl_router", "information", "fidelity_gap_per_token")
"""Figures of ``metrics.jsonl``, beside those of each strategy."""

OF_EACH = ("usage/", "entropy/")


def course_curves(course: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """``course/<name>``, ``(2, T)``: step, and figure on held-out data; empty without a course.

    ``course/usage_entropy`` is the entropy of the mean posterior over its values, in nats.
    """
    records = [record for record in course if record.get("split") == "test"]
    names = {name for record in records for name in record if name in KEPT or name.startswith(OF_EACH)}
    curves = {
        f"course/{name}": np.array([(r["step"], r[name]) for r in records if name in r], float).T
        for name in sorted(names)
    }
    shares = sorted(name for name in curves if name.startswith("course/usage/"))
    if shares:
        p = np.stack([curves[name][1] for name in shares])  # (P, T)
        nats = -np.where(p > 0, p * np.log(np.maximum(p, np.finfo(float).tiny)), 0.0).sum(0)
        curves["course/usage_entropy"] = np.stack([curves[shares[0]][0], nats])
    return curves
