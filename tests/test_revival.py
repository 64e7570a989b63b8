"""Halves of strategies start again beside two that are in one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.revival import revive
from stratagem.models import (
    Backbone,
    BinaryCode,
    Categorical,
    Example,
    LatentLM,
    LearnedPrior,
    Normal,
    PooledRouter,
    Router,
    TokenRouter,
    collate,
)
from torch import nn

USAGE, ENTROPY = [0.3, 0.5, 0.2], [0.1, 1.4, 0.7]
"""The second is two strategies, the first half of one."""

CROWDED = (USAGE, ENTROPY)


@pytest.fixture
def parts(
    make_backbone: Callable[..., Backbone],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> tuple[LatentLM, AmortizedGuide]:
    model = make_model(make_backbone("llama"), router=PooledRouter)
    guide = AmortizedGuide(model)
    randomise(model)
    randomise(guide)
    return model, guide


def rows(model: LatentLM, guide: AmortizedGuide) -> list[torch.Tensor]:
    """The table of prefixes, and the last layers of router and guide."""
    heads = [model.routers["z"].reader.head[-1], guide.readers["z"].head[-1]]
    return [w.detach().clone() for w in (model.conditionings["z"].weight, *(h.weight for h in heads))]


def test_the_least_used_becomes_a_noisy_copy_of_the_most_used(parts: tuple[LatentLM, AmortizedGuide]) -> None:
    before = rows(*parts)
    assert revive(*parts, *CROWDED, 0.4, seed=1)
    table, router, guide = rows(*parts)
    for old, new in zip(before, (table, router, guide), strict=True):
        torch.testing.assert_close(new[1:], old[1:], atol=0.0, rtol=0.0)
    torch.testing.assert_close(router[0], router[1])
    torch.testing.assert_close(guide[0], guide[1])
    distance = (table[0] - table[1]).norm() / table[1].norm()
    assert 0.2 < float(distance) < 0.4 < float((before[0][0] - before[0][1]).norm() / before[0][1].norm())


def test_the_noise_is_the_seeds(parts: tuple[LatentLM, AmortizedGuide]) -> None:
    found = []
    for seed in (1, 1, 2):
        torch.rand(seed)
        assert revive(*parts, *CROWDED, 0.4, seed)
        found.append(rows(*parts)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("usage", "entropy", "threshold"),
    [
        ([0.05, 0.55, 0.4], [0.7, 0.7, 0.7], 0.5),  # rare, and whole
        ([0.3, 0.5, 0.2], [0.7, 1.3, 0.7], 0.5),
        (*CROWDED, 0.05),
        (*CROWDED, 0.0),
        ([], [], 0.4),
    ],
)
def test_whole_strategies_are_left(
    parts: tuple[LatentLM, AmortizedGuide], usage: list[float], entropy: list[float], threshold: float
) -> None:
    before = rows(*parts)
    assert not revive(*parts, usage, entropy, threshold, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, rows(*parts), strict=True))


def test_what_is_not_used_starts_again_whatever_its_responses_would_be(
    parts: tuple[LatentLM, AmortizedGuide],
) -> None:
    before = rows(*parts)
    assert revive(*parts, [0.4, 0.6, 0.0], [0.5, 0.7, 9.0], 0.5, seed=1)
    table, router, _ = rows(*parts)
    assert torch.equal(table[:2], before[0][:2])
    torch.testing.assert_close(router[2], router[1])


@pytest.mark.parametrize("router", [LearnedPrior, TokenRouter])
def test_a_router_without_a_head_gives_both_the_same_share(
    router: type[Router],
    make_backbone: Callable[..., Backbone],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> None:
    model = make_model(make_backbone("llama"), router=router)
    guide = AmortizedGuide(model)
    randomise(model)
    batch = collate([Example((3, 4), (5,)), Example((6,), (5,))], 0)
    before = model.routers["z"].parameters_of(batch)
    assert revive(model, guide, *CROWDED, 0.4, seed=1)
    after = model.routers["z"].parameters_of(batch)
    torch.testing.assert_close(after[:, 0], before[:, 1])
    torch.testing.assert_close(after[:, 1:], before[:, 1:])


def test_what_has_no_row_of_its_own_for_each_strategy_is_left(
    make_backbone: Callable[..., Backbone], make_model: Callable[..., LatentLM]
) -> None:
    bits = make_model(make_backbone("llama"), latents={"z": BinaryCode(2)})
    assert not revive(bits, AmortizedGuide(bits), [0.0, 0.5, 0.3, 0.2], [0.1, 1.4, 0.7, 0.7], 0.4, seed=1)


def test_models_of_several_latents_and_of_ones_own_are_left(
    make_backbone: Callable[..., Backbone], make_model: Callable[..., LatentLM]
) -> None:
    model = make_model(make_backbone("llama"), latents={"a": Categorical(3), "b": Normal(2)})
    assert not revive(model, AmortizedGuide(model), *CROWDED, 0.4, seed=1)
    assert not revive(nn.Linear(1, 1), nn.Linear(1, 1), *CROWDED, 0.4, seed=1)
