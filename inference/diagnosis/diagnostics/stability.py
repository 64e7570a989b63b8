"""Does z mean the same on other prompts, in other words, in another half of the data, in another fit?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch

from ...evaluation.meaning import ami
from ...evaluation.statistics import mean_se, named
from ...experiments.agreement import nmi
from ..diagnostic import Readings
from ..subject import Subject
from .forcing import in_use
from .jackknife import jackknife
from .paraphrase import paraphrased
from .reader import Pooled, pooled
from .scoring import as_data

FOLDS = 5

LEAST = 10
"""Prompts from which readers are fitted."""


def stability(subject: Subject) -> Readings:
    """How well z is read off a response on prompts that the reader has not seen, and the same under a paraphrase.

    Readers are linear in the base's hidden states, see :class:`.reader.Pooled`, and are fitted on one response to each
    prompt under each value in use, so that chance is one over their number. Those of a continuous z are centres of
    clusters of the guide's means. Says nothing where some latents are discrete and some continuous.
    """
    chosen = subject.values
    if chosen is None:
        return Readings()
    places = in_use(chosen)
    figures = paraphrased(subject, chosen)
    if len(places) > 1 and len(subject.data) >= LEAST:
        responses = subject.forced
        found = pooled(subject, [as_data(subject, responses[k]) for k in places])
        figures |= _transfer(found, subject.seed) | _halves(found, subject.seed)
    return Readings(figures)


def _transfer(found: Pooled, seed: int) -> dict[str, float]:
    """Share of the responses whose z is read rightly, by readers fitted on other prompts."""
    P, num = found.forced.shape[:2]
    fold = np.random.default_rng(seed).permutation(num) % FOLDS
    right = np.zeros(num)
    for one in range(FOLDS):
        asked = np.flatnonzero(fold == one)
        z = found.read(np.flatnonzero(fold != one), asked)
        right[asked] = (z == np.arange(P)[:, None]).mean(0)
    return {
        **named("stability/transfer", mean_se(torch.from_numpy(right))),
        "stability/transfer_chance": 1 / P,
    }


def _halves(found: Pooled, seed: int) -> dict[str, float]:
    """Adjusted mutual information of what readers of two halves of the prompts read off the data's responses."""
    halves = np.array_split(np.random.default_rng(seed).permutation(len(found.own)), 2)
    one, other = (found.read_own(half) for half in halves)
    return named("stability/halves", jackknife(lambda n: ami(one[n], other[n]), len(one)))


def across(subjects: Sequence[Subject]) -> Readings:
    """Agreement of the likeliest z of the same data between runs: AMI and NMI, mean and least over the pairs.

    Mutual information adjusted for chance [Vinh, Epps & Bailey 2010], and normalised by the mean of the entropies. Of
    a continuous z the clusters count. Says nothing of one run, nor where some latents are discrete and some
    continuous.

    Args:
        subjects: runs on the same data.

    Raises:
        ValueError: other data.
    """
    for place, other in enumerate(subjects):
        if other.data.examples != subjects[0].data.examples:
            raise ValueError(
                f"stability of runs: run {place} has other prompts or responses than run 0, so that their z cannot be "
                "compared; make its subject with on_same_data(first, model, guide)"
            )
    labels = [_likeliest(subject) for subject in subjects]
    known = [z for z in labels if z is not None]
    if len(known) < len(labels) or len(labels) < 2:
        return Readings()
    places = list(combinations(range(len(known)), 2))
    matrix = np.eye(len(known))
    for i, j in places:
        matrix[i, j] = matrix[j, i] = ami(known[i], known[j])

    def agreement(
        measure: Callable[[np.ndarray, np.ndarray], float], pairs: Sequence[tuple[int, int]]
    ) -> tuple[float, float]:
        """Mean of a measure over pairs of runs."""
        return jackknife(
            lambda n: float(np.mean([measure(known[i][n], known[j][n]) for i, j in pairs])), len(known[0])
        )

    least = min(places, key=lambda pair: matrix[pair])
    figures = {
        **named("stability/runs", agreement(ami, places)),
        **named("stability/runs_nmi", agreement(nmi, places)),
        **named("stability/runs_least", agreement(ami, [least])),
    }
    return Readings(figures, {"stability/runs": matrix})


def _likeliest(subject: Subject) -> np.ndarray | None:
    """``(N,)``: the likeliest value; None where there are no finitely many."""
    chosen = subject.values
    return None if chosen is None else chosen.posterior.argmax(1).numpy()
