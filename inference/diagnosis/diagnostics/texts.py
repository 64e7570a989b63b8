"""Figures of token sequences: how varied they are, and how unlike two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

Tokens = Sequence[int]


def ngrams(tokens: Tokens, n: int) -> list[tuple[int, ...]]:
    """The n-grams in order."""
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def distinct(rows: Sequence[Tokens], n: int) -> tuple[float, float] | None:
    """Different n-grams over all n-grams of some responses [Li et al. 2016, section 5.2], and its standard error.

    By the jackknife over the responses. It falls with their number and length, so that it compares as many responses
    of a length. None where there is no n-gram.
    """
    each = [Counter(ngrams(row, n)) for row in rows]
    counts = Counter(chain.from_iterable(row.elements() for row in each))
    total = counts.total()
    if not total:
        return None
    alone = np.array([sum(count == counts[gram] for gram, count in row.items()) for row in each])
    sizes = np.array([row.total() for row in each])
    without = (len(counts) - alone) / np.maximum(total - sizes, 1)
    error = np.sqrt((len(rows) - 1) / len(rows) * ((without - without.mean()) ** 2).sum())
    return len(counts) / total, float(error)


def repetition(tokens: Tokens, n: int = 4) -> float:
    """Share of the n-grams of a response that it has had before [Welleck et al. 2020, eq. 7]; 0 without any."""
    grams = ngrams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def edit_distance(one: Sequence[Tokens], other: Sequence[Tokens]) -> np.ndarray:
    """Insertions, deletions and replacements of a token [Levenshtein 1966] over the longer's length, ``(N,)``.

    Row by row of Wagner & Fischer's table [1974], of all pairs at once; 0 for two that are empty.
    """
    a, b = _padded(one), _padded(other)
    lengths = np.array([[len(row) for row in rows] for rows in (one, other)])
    places = np.arange(b.shape[1] + 1)
    row = np.broadcast_to(places, (len(a), len(places))).copy()
    found = row[np.arange(len(a)), lengths[1]]
    for i in range(a.shape[1]):
        step = np.minimum(row[:, 1:] + 1, row[:, :-1] + (b != a[:, i : i + 1]))
        row = np.concatenate([np.full((len(a), 1), i + 1), step], 1)
        row = np.minimum.accumulate(row - places, 1) + places
        found = np.where(lengths[0] == i + 1, row[np.arange(len(a)), lengths[1]], found)
    return found / np.maximum(lengths.max(0), 1)


def one_replacement(one: Tokens, other: Tokens) -> bool:
    """Whether two responses differ, and one becomes the other where every token a is made a token b."""
    differ = {(a, b) for a, b in zip(one, other, strict=False) if a != b}
    if len(one) != len(other) or len(differ) != 1:
        return False
    ((a, b),) = differ
    kept = [c for c, d in zip(one, other, strict=True) if c == d]
    return a not in kept or b not in kept


def _padded(rows: Sequence[Tokens]) -> np.ndarray:
    """``(N, longest)``, -1 behind the end."""
    out = np.full((len(rows), max(map(len, rows), default=0)), -1)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out
