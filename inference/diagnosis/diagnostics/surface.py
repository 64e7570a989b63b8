"""The effect of do(z = k) on the text of the response."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from ....models import base_law
from ...dataset import Dataset
from ...evaluation.statistics import mean_se, named, ratio_se
from ..diagnostic import Readings
from ..subject import Subject
from .forcing import in_use
from .scoring import as_data
from .texts import Tokens, distinct, edit_distance, one_replacement, repetition


def surface(subject: Subject) -> Readings:
    """Length, perplexity, variety and repetition of sampled responses under each value of z, and of the base's own.

    Beside it how unlike the greedy responses to one prompt are under any two values in use. The values of a continuous
    z are the centres of clusters of the guide's means. Says nothing where some latents are discrete and some
    continuous.
    """
    chosen = subject.values
    if chosen is None:
        return Readings()
    figures = _described(subject, subject.data, "_base")
    for k, row in enumerate(subject.forced):
        figures |= _described(subject, as_data(subject, row), f"/{k}")
    greedy = subject.greedy
    used = [_words(subject, as_data(subject, greedy[k])) for k in in_use(chosen)]
    if len(used) > 1:
        figures |= _unlike(used)
    return Readings(figures)


def _described(subject: Subject, data: Dataset, suffix: str) -> dict[str, float]:
    lengths = torch.tensor([len(example.response) for example in data.examples])
    log_p, error = ratio_se(_log_base(subject, data), lengths)
    perplexity = float(np.exp(-log_p))
    words = _words(subject, data)
    out = {
        **named(f"intervention/length{suffix}", mean_se(lengths)),
        **named(f"intervention/perplexity{suffix}", (perplexity, perplexity * error)),
        **named(f"intervention/repetition{suffix}", mean_se(list(map(repetition, words)))),
    }
    for n in (1, 2):
        if (found := distinct(words, n)) is not None:
            out |= named(f"intervention/distinct_{n}{suffix}", found)
    return out


@torch.no_grad()
def _log_base(subject: Subject, data: Dataset) -> Tensor:
    """``log p0(y|x)``, ``(N,)``."""
    if data is subject.data:
        return subject.seen.log_base
    parts = []
    for batch in data.batches(subject.batch_size):
        here = batch.to(subject.model.backbone.device)
        assert here.response is not None
        parts.append(base_law(subject.model, here).log_prob(here.response).cpu())
    return torch.cat(parts)


def _words(subject: Subject, data: Dataset) -> list[Tokens]:
    """The responses without their end tokens."""
    ends = subject.model.backbone.eos_ids
    return [[token for token in example.response if token not in ends] for example in data.examples]


def _unlike(rows: Sequence[Sequence[Tokens]]) -> dict[str, float]:
    """Of P values the responses to N prompts: mean edit distance, and how much of the difference is one token's."""
    pairs = list(combinations(rows, 2))
    distance = np.stack([edit_distance(one, other) for one, other in pairs])  # (pairs, N)
    replaced = np.array([list(map(one_replacement, one, other)) for one, other in pairs])
    out = named("intervention/edit_share", mean_se(torch.from_numpy(distance.mean(0))))
    different = torch.from_numpy((distance > 0).sum(0))
    if different.any():
        counted = torch.from_numpy(replaced.sum(0))
        out |= named("intervention/substitution_share", ratio_se(counted, different))
    return out
