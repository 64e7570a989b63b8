"""Are answers as good as the base's?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...tasks import Task
from .routing import followed_most
from .statistics import mean_se, named


def accuracy(task: Task, prompts: Sequence[str], outputs: Sequence[str]) -> tuple[float, float]:
    """Share of right answers, and its standard error."""
    return mean_se([float(task.is_correct(p, o)) for p, o in zip(prompts, outputs, strict=True)])


def skill(
    task: Task,
    prompts: Sequence[str],
    sampled: Sequence[str],
    base: Sequence[str],
    forced: Sequence[Sequence[str]],
    usage: Sequence[float],
) -> dict[str, float]:
    """Accuracy with z from the router, of the base, and under each forced z.

    The least forced accuracy, and the largest gap between base and forced z, are over the values in use (at least
    1 % of the mean posterior). The gap of a value is on the prompts that admit the strategy that it follows most
    often, all of them where it follows none: where a strategy is not open, it cannot be expected to succeed.
    """
    out = {
        **named("skill/accuracy", accuracy(task, prompts, sampled)),
        **named("skill/accuracy_base", accuracy(task, prompts, base)),
    }
    each = [accuracy(task, prompts, outputs)[0] for outputs in forced]
    out |= {f"skill/accuracy_forced/{k}": share for k, share in enumerate(each)}
    used = [k for k, u in enumerate(usage) if u >= 0.01]
    if used:
        gaps = _gaps(task, prompts, base, forced)
        out["skill/accuracy_forced_min"] = min(each[k] for k in used)
        out |= named("skill/accuracy_forced_gap", max(gaps[k] for k in used))
    return out


def _gaps(
    task: Task, prompts: Sequence[str], base: Sequence[str], forced: Sequence[Sequence[str]]
) -> list[tuple[float, float]]:
    """Of each z, accuracy of the base less that under z, on the prompts that admit z's strategy; standard errors."""
    right = np.array(
        [[task.is_correct(p, o) for p, o in zip(prompts, row, strict=True)] for row in (base, *forced)]
    )
    admits = np.array([[s in task.admissible(p) for s in task.strategies] for p in prompts])
    gaps = right[0] - right[1:].astype(float)  # (K, N)
    places = followed_most(task, prompts, forced)
    return [
        mean_se(torch.from_numpy(gap[admits[:, s]] if s >= 0 else gap))
        for gap, s in zip(gaps, places, strict=True)
    ]
