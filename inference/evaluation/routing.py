"""Does the router follow p(s|x), the law of the strategies? Known only on a task with known strategies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...tasks import Task
from .meaning import follows, shares, telling
from .statistics import mean_se, named


def followed_most(task: Task, prompts: Sequence[str], outputs: Sequence[Sequence[str]]) -> np.ndarray:
    """``(K,)``: place of the strategy that z = k follows most often, of the largest ``A[k, s]``; -1 where none."""
    a = shares(follows(task, prompts, outputs), telling(task, prompts))
    return np.where(a.max(1) > 0, a.argmax(1), -1)


def routing(
    task: Task, prompts: Sequence[str], outputs: Sequence[Sequence[str]], router: Tensor
) -> dict[str, float]:
    """Total variation distance between ``p(s|x)`` and the router's law, each z standing for one strategy.

    That strategy is the one that z follows most often on all prompts, so that several z may share one, and a
    strategy that no z follows most often has no probability. What goes to a z that follows none is lost. The same
    of the router's mean over the prompts, which is blind to x. Over the prompts that tell their strategies apart;
    nothing where there are none.

    Args:
        task: the task.
        prompts: N prompts.
        outputs: N texts for each of the P joint values of the latents, sampled.
        router: ``p(z|x)``, ``(N, P)``.
    """
    counted = telling(task, prompts).any(1)
    if not counted.any():
        return {}
    place = followed_most(task, prompts, outputs)
    truth = np.array([[task.admissible(p).get(s, 0.0) for s in task.strategies] for p in prompts])[counted]
    law = router.double().numpy()[counted]
    stands_for = place[:, None] == np.arange(len(task.strategies))  # (P, S)
    blind = np.broadcast_to(law.mean(0), law.shape)
    return {
        **named("router/calibration", mean_se(_total_variation(truth, law @ stands_for))),
        **named("router/calibration_prior", mean_se(_total_variation(truth, blind @ stands_for))),
    }


def _total_variation(p: np.ndarray, q: np.ndarray) -> Tensor:
    """``(N,)``: half of ``sum |p - q|`` of laws ``(N, S)``, what q lacks of 1 lying where p has nothing."""
    return torch.from_numpy((np.abs(p - q).sum(1) + 1 - q.sum(1)) / 2)
