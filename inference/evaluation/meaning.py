"""Does one z mean one strategy on every x? Known only on a task with known strategies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from torch import Tensor

from ...tasks import Task
from .statistics import mean_se, named


def follows(task: Task, prompts: Sequence[str], outputs: Sequence[Sequence[str]]) -> np.ndarray:
    """``(K, N, S)``: whether the k-th output to the n-th prompt follows strategy s."""
    return np.array(
        [
            [[s in found for s in task.strategies] for found in map(task.strategies_of, prompts, row)]
            for row in outputs
        ],
        dtype=float,
    )


def telling(task: Task, prompts: Sequence[str]) -> np.ndarray:
    """``(N, S)``: prompts whose admissible strategies all differ in their responses, by admissible strategy."""
    out = np.zeros((len(prompts), len(task.strategies)), dtype=bool)
    for n, prompt in enumerate(prompts):
        admissible = list(task.admissible(prompt))
        if len({task.trace(prompt, s, task.nuisances[0]) for s in admissible}) == len(admissible):
            out[n] = [s in admissible for s in task.strategies]
    return out


def shares(followed: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """``A[k, s]``, ``(K, S)``: share of the prompts that count for s whose k-th output follows it."""
    return (followed * counted).sum(1) / np.maximum(counted.sum(0), 1)


def matched(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places ``(k, s)`` of the one-to-one matching of latents and strategies with the largest sum of ``a``."""
    rows, columns = linear_sum_assignment(a, maximize=True)
    return rows, columns


def alignment(followed: np.ndarray, counted: np.ndarray) -> tuple[float, float]:
    """``A[k, s]`` of the best matching, mean over the S strategies, an unmatched one counts 0; its standard error.

    The error is that of a sum of ratios of means over prompts, which the latents share, by the delta method, the
    matching held.
    """
    a = shares(followed, counted)
    k, s = matched(a)
    off = (followed[k, :, s] - a[k, s][:, None]) * counted[:, s].T  # (matched, N)
    each = off / np.maximum(counted[:, s].mean(0), 1 / len(counted))[:, None]
    return float(a[k, s].sum() / a.shape[1]), mean_se(torch.from_numpy(each.sum(0) / a.shape[1]))[1]


def per_prompt_alignment(followed: np.ndarray, counted: np.ndarray) -> float:
    """The same with the best matching of each prompt: at least :func:`alignment`, above where labels change places.

    A strategy weighs on each of its prompts the same, and as much as every other on all of them together, as there.
    """
    weights = counted / np.maximum(counted.sum(0), 1) / counted.shape[1]
    each = followed.transpose(1, 0, 2) * weights[:, None]  # (N, K, S)
    return float(sum(a[matched(a)].sum() for a in each))


def purity(a: np.ndarray, usage: np.ndarray) -> float:
    """Mean over the latents, weighted by their usage, of ``max_s A[k, s]``."""
    return float((a.max(1) * usage).sum() / usage.sum())


def coverage(followed: np.ndarray, counted: np.ndarray) -> float:
    """Share of the strategies that a prompt admits that its K outputs cover."""
    return float((followed.max(0) * counted).sum() / np.maximum(counted.sum(), 1))


def output_figures(
    task: Task, prompts: Sequence[str], outputs: Sequence[Sequence[str]], usage: np.ndarray, suffix: str
) -> dict[str, float]:
    """The figures of forced outputs, one list of N texts for each z; names end in ``suffix``."""
    followed, counted = follows(task, prompts, outputs), telling(task, prompts)
    aligned = alignment(followed, counted)
    return {
        **named(f"meaning/alignment{suffix}", aligned),
        f"meaning/purity{suffix}": purity(shares(followed, counted), usage),
        f"meaning/coverage{suffix}": coverage(followed, counted),
        f"meaning/per_prompt_gap{suffix}": max(per_prompt_alignment(followed, counted) - aligned[0], 0.0),
    }


def ami(labels: np.ndarray, z: np.ndarray) -> float:
    """Adjusted mutual information; 0 where either is the same for all, since a constant tells nothing."""
    if len(np.unique(labels)) < 2 or len(np.unique(z)) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(labels, z))


def strategy_labels(task: Task, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """``(N,)``: place of the one strategy that each response follows; -1 where it follows none or several."""
    found = map(task.strategies_of, prompts, responses)
    return np.array([task.strategies.index(next(iter(s))) if len(s) == 1 else -1 for s in found], dtype=int)


def nuisance_labels(task: Task, responses: Sequence[str]) -> np.ndarray:
    """``(N,)``: place of the nuisance that each response shows; -1 where it shows none."""
    found = map(task.nuisance_of, responses)
    return np.array([-1 if n is None else task.nuisances.index(n) for n in found], dtype=int)


def posterior_figures(
    task: Task, prompts: Sequence[str], responses: Sequence[str], posterior: Tensor, suffix: str = ""
) -> dict[str, float]:
    """Accuracy after one matching, AMI and ARI of the likeliest z with the strategy, and AMI with the nuisance.

    Only responses that follow exactly one strategy count. AMI is adjusted for chance, so that it does not
    grow with K.

    Args:
        task: the task.
        prompts: N prompts.
        responses: N responses.
        posterior: ``p(z|x,y)``, ``(N, K)``.
        suffix: put at the end of each name.
    """
    z = posterior.argmax(1).numpy()
    strategies, nuisances = strategy_labels(task, prompts, responses), nuisance_labels(task, responses)
    kept, shown = strategies >= 0, nuisances >= 0
    out = {}
    if kept.any():
        truth = strategies[kept]
        table = np.zeros((posterior.shape[1], len(task.strategies)))
        np.add.at(table, (z[kept], truth), 1)
        rows, columns = linear_sum_assignment(table, maximize=True)
        share = float(table[rows, columns].sum() / kept.sum())
        out = {
            f"meaning/posterior_accuracy{suffix}": share,
            f"meaning/posterior_accuracy{suffix}_se": float(np.sqrt(share * (1 - share) / kept.sum())),
            f"meaning/ami{suffix}": ami(truth, z[kept]),
            f"meaning/ari{suffix}": float(adjusted_rand_score(truth, z[kept])),
        }
    if shown.any():
        out[f"meaning/nuisance_ami{suffix}"] = ami(nuisances[shown], z[shown])
    return out
