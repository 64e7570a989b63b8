"""Are answers as good as the base's?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...tasks import Task
from .routing import followed_most
from .statistics import mean_se, named


@dataclass(frozen=True)
class OfBase:
    """A response of the base to each of N prompts.

    Attributes:
        texts: the responses.
        posterior: the share of each of P values of z in each, ``(N, P)``, where it is known.
    """

    texts: Sequence[str]
    posterior: Tensor | None = None


def skill(
    task: Task,
    prompts: Sequence[str],
    sampled: Sequence[Sequence[str]],
    base: Sequence[OfBase],
    forced: Sequence[Sequence[Sequence[str]]],
    usage: Sequence[float],
) -> dict[str, float]:
    """Accuracy with z from the router, of the base, and under each forced z.

    The least forced accuracy, and the largest gap between base and forced z, are over the values in use (at least
    1 % of the mean posterior). The gap of a value is on the prompts that admit the strategy that it follows most
    often, all of them where it follows none: where a strategy is not open, it cannot be expected to succeed.
    A z that keeps the law of the base is wrong as often as the base is where it follows that z. How far below its mean
    on those prompts the base then falls, its responses weighed by the posterior of z, is the part of the largest
    gap that is the base's own. Standard errors are over prompts, each with its mean over the draws.

    Args:
        task: the task.
        prompts: N prompts.
        sampled: of each draw N texts with z from the router.
        base: draws of the base.
        forced: of each value of z in each draw N texts.
        usage: of each value.
    """
    right_base = _right(task, prompts, [draw.texts for draw in base])  # (D, N)
    ours, theirs = _right(task, prompts, sampled).mean(0), right_base.mean(0)
    out = {
        **named("skill/accuracy", mean_se(torch.from_numpy(ours))),
        **named("skill/accuracy_base", mean_se(torch.from_numpy(theirs))),
    }
    each = [_right(task, prompts, draws).mean(0) for draws in forced]
    out |= {f"skill/accuracy_forced/{k}": float(right.mean()) for k, right in enumerate(each)}
    used = [k for k, u in enumerate(usage) if u >= 0.01]
    if used:
        out["skill/accuracy_forced_min"] = min(float(each[k].mean()) for k in used)
        open_to = _open_to(task, prompts, forced)
        gaps = [mean_se(torch.from_numpy((theirs - each[k])[open_to[k]])) for k in range(len(each))]
        widest = max(used, key=lambda k: gaps[k])
        out |= named("skill/accuracy_forced_gap", gaps[widest])
        known = [n for n, draw in enumerate(base) if draw.posterior is not None]
        weights = np.array([draw.posterior[:, widest].numpy() for draw in base if draw.posterior is not None])
        if known and weights[:, open_to[widest]].any():
            own = _shortfall(right_base[known][:, open_to[widest]], weights[:, open_to[widest]])
            out |= named("skill/accuracy_forced_gap_of_base", own)
    return out


def _open_to(task: Task, prompts: Sequence[str], forced: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    """``(P, N)``: whether a prompt admits the strategy that a value follows most often; all, where it follows none."""
    admits = np.array([[s in task.admissible(p) for s in task.strategies] for p in prompts])
    places = followed_most(task, prompts, [draws[0] for draws in forced])
    return np.array([admits[:, s] if s >= 0 else np.full(len(prompts), True) for s in places])


def _shortfall(right: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Mean less weighted mean of ``(D, N)``, and its standard error over the N by the delta method."""
    top, bottom = (right * weights).mean(0), weights.mean(0)
    weighted = top.mean() / bottom.mean()
    value, error = mean_se(torch.from_numpy(right.mean(0) - (top - weighted * bottom) / bottom.mean()))
    return value - weighted, error


def _right(task: Task, prompts: Sequence[str], draws: Sequence[Sequence[str]]) -> np.ndarray:
    """``(D, N)``: whether each answer is right, 1 or 0."""
    right = [[task.is_correct(p, o) for p, o in zip(prompts, outputs, strict=True)] for outputs in draws]
    return np.array(right, dtype=np.float64)
