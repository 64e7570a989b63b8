"""Are answers as good as the base's?"""

from __future__ import annotations

from collections.abc import Sequence

from ...tasks import Task
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

    The least forced accuracy is over the strategies in use (at least 1 % of the mean posterior).
    """
    out = {
        **named("skill/accuracy", accuracy(task, prompts, sampled)),
        **named("skill/accuracy_base", accuracy(task, prompts, base)),
    }
    each = [accuracy(task, prompts, outputs)[0] for outputs in forced]
    out |= {f"skill/accuracy_forced/{k}": share for k, share in enumerate(each)}
    used = [share for share, u in zip(each, usage, strict=True) if u >= 0.01]
    return out | ({"skill/accuracy_forced_min": min(used)} if used else {})
