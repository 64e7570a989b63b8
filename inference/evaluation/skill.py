"""Are answers as good as the base's?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...tasks import Task
from .routing import followed_most
from .statistics import mean_se, named


def skill(
    task: Task,
    prompts: Sequence[str],
    sampled: Sequence[Sequence[str]],
    base: Sequence[Sequence[str]],
    forced: Sequence[Sequence[Sequence[str]]],
    usage: Sequence[float],
) -> dict[str, float]:
    """Accuracy with z from the router, of the base, and under each forced z.

    The least forced accuracy, and the largest gap between base and forced z, are over the values in use (at least
    1 % of the mean posterior). The gap of a value is on the prompts that admit the strategy that it follows most
    often, all of them where it follows none: where a strategy is not open, it cannot be expected to succeed.
    Standard errors are over prompts, each with its mean over the draws.

    Args:
        task: the task.
        prompts: N prompts.
        sampled: of each draw N texts with z from the router.
        base: of each draw N texts of the base.
        forced: of each value of z in each draw N texts.
        usage: of each value.
    """
    ours, theirs = _right(task, prompts, sampled), _right(task, prompts, base)
    out = {
        **named("skill/accuracy", mean_se(torch.from_numpy(ours))),
        **named("skill/accuracy_base", mean_se(torch.from_numpy(theirs))),
    }
    each = [_right(task, prompts, draws) for draws in forced]
    out |= {f"skill/accuracy_forced/{k}": float(right.mean()) for k, right in enumerate(each)}
    used = [k for k, u in enumerate(usage) if u >= 0.01]
    if used:
        admits = np.array([[s in task.admissible(p) for s in task.strategies] for p in prompts])
        places = followed_most(task, prompts, [draws[0] for draws in forced])
        gaps = [
            mean_se(torch.from_numpy((theirs - right)[admits[:, s] if s >= 0 else slice(None)]))
            for right, s in zip(each, places, strict=True)
        ]
        out["skill/accuracy_forced_min"] = min(float(each[k].mean()) for k in used)
        out |= named("skill/accuracy_forced_gap", max(gaps[k] for k in used))
    return out


def _right(task: Task, prompts: Sequence[str], draws: Sequence[Sequence[str]]) -> np.ndarray:
    """``(N,)``: of each prompt the share of right answers."""
    right = [[task.is_correct(p, o) for p, o in zip(prompts, outputs, strict=True)] for outputs in draws]
    mean: np.ndarray = np.array(right, dtype=np.float64).mean(0)
    return mean
