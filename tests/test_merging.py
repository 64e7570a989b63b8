"""Cuts into fewer parts than there are strategies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stratagem.inference.partitions import HiddenStates
from stratagem.inference.partitions.cut import Cut
from stratagem.inference.partitions.merging import groupings, merged
from stratagem.inference.partitions.spaces import Space

from .partition_fixtures import RESPONSES, sample_of, scene


@pytest.mark.parametrize(
    ("size", "groups", "number"), [(4, 2, 7), (5, 3, 25), (8, 4, 1701), (3, 3, 1), (2, 3, 0)]
)
def test_every_grouping_is_made_once(size: int, groups: int, number: int) -> None:
    """Their number is Stirling's of the second kind."""
    found = list(groupings(size, groups))
    assert len(found) == number
    as_sets = {frozenset(frozenset(np.flatnonzero(np.array(n) == g)) for g in set(n)) for n in found}
    assert len(as_sets) == number
    assert all(len(group) == groups for group in as_sets)


def test_groups_are_of_one_size_and_of_what_lies_together() -> None:
    """Of three groupings into two pairs that tell as much apart, the one whose pairs are near each other."""
    _, z = scene(parts=4)
    centres = np.zeros((4, 24))
    centres[:, :3] = [[0, 0, 0], [4, 0, 0], [0, 1, 0], [4, 0, 1]]
    x = centres[z] + 0.1 * np.random.default_rng(0).normal(size=(len(z), 24))
    sample = sample_of(x.reshape(-1, RESPONSES, 24), torch.arange(len(z)))
    space = Space(slice(0, 24), torch.zeros(24).double(), torch.eye(24).double())
    cut = merged(Cut(space, torch.from_numpy(centres)), sample, space(sample.features), 2)
    assert cut.parts == 2
    assert torch.equal(cut(sample.features), torch.tensor([0, 1, 0, 1])[z])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_strategy_is_of_one_part_on_every_prompt_where_there_are_fewer_parts(seed: int) -> None:
    sample, z = scene(parts=6, seed=seed)
    cuts, again, how = HiddenStates(ridge=0.1, restarts=3).cuts(sample, sample.contents, 2, 0)
    assert "of 6 parts put together" in how
    assert again > 0.95
    share = torch.zeros(6, 2).index_put_((z, cuts[0](sample.features)), torch.ones(len(z)), accumulate=True)
    share /= share.sum(1, keepdim=True)
    assert share.amax(1).min() > 0.97
    assert share.argmax(1).bincount().min() >= 2
