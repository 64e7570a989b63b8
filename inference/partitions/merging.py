"""Parts of a cut put together, where there are to be fewer than there are strategies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .cut import Cut, apart, explained
from .spaces import Sample

NEAR = 0.95
"""A grouping that tells this share of what the best one does is as good: strategies are not equally frequent."""


def merged(cut: Cut, sample: Sample, points: Tensor, parts: int) -> Cut:
    """The cut whose parts are groups of those of ``cut``, the same on every prompt as these are.

    Of all groupings that tell responses to one prompt :func:`~.cut.apart` nearly as well as any does, the one whose
    groups explain most of the scatter within prompts, :func:`~.cut.explained`. A cut that is made into fewer parts than
    there are strategies may put these together on one prompt and those on the next.

    Args:
        cut: more parts, at most about ten.
        sample: the responses.
        points: ``(N, dimensions)``, their places in a space.
        parts: of the result, at least 2.
    """
    z = cut(sample.features)
    found = []
    for names in groupings(cut.parts, parts):
        grouped = torch.tensor(names)[z]
        found.append((apart(grouped, sample.contents, sample.pairs), names, grouped))
    best = max(told for told, _, _ in found)
    near = [(names, grouped) for told, names, grouped in found if told >= NEAR * best]
    names = max(near, key=lambda n: explained(n[1], points, sample.pairs, parts))[0]
    return replace(cut, names=torch.tensor(names))


def groupings(size: int, groups: int) -> Iterator[tuple[int, ...]]:
    """Every way to put ``size`` things into so many groups, none of them empty, as the group of each thing.

    Groups are numbered in the order of their first thing.
    """

    def extend(names: tuple[int, ...], used: int) -> Iterator[tuple[int, ...]]:
        if groups - used > size - len(names):
            return
        if len(names) == size:
            yield names
            return
        for name in range(min(used + 1, groups)):
            yield from extend((*names, name), max(used, name + 1))

    return extend((), 0)
