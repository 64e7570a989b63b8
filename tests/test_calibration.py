"""A start at a known distance from the base."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    KeyValuePrefix,
    LatentLM,
    Normal,
    PooledRouter,
    SlotTokens,
    calibrate,
    collate,
    load_backbone,
)
from stratagem.models.text import encode
from stratagem.tasks import Sorting
from torch import Tensor

COST = 0.5


@pytest.fixture(scope="module")
def bundled() -> Backbone:
    return load_backbone("bundled:strategies")


@pytest.fixture(scope="module")
def batch(bundled: Backbone) -> Batch:
    task = Sorting()
    pairs = [(p, task.trace(p, s, ";")) for p in task.prompts(8, "train", 0) for s in task.strategies]
    return collate([encode(bundled, *pair) for pair in pairs], bundled.pad_id)


def costs(model: LatentLM, batch: Batch, z: dict[str, Tensor]) -> Tensor:
    """Nats per sequence of each value of z beside the base, ``(values,)``."""
    assert batch.response is not None
    with torch.no_grad():
        gap = model.base(batch).log_prob(batch.response) - model.decoder(batch, z).log_prob(batch.response)
    return gap.mean(-1)


@pytest.mark.parametrize("init_scale", [0.5, 3.0])
def test_every_strategy_costs_the_same(bundled: Backbone, batch: Batch, init_scale: float) -> None:
    torch.manual_seed(0)
    model = LatentLM(
        bundled, {"z": Categorical(4)}, PooledRouter, partial(KeyValuePrefix, init_scale=init_scale)
    )
    z = {"z": torch.arange(4)[:, None]}
    assert (costs(model, batch, z) - COST).abs().max() > 0.1
    calibrate(model, batch, COST)
    torch.testing.assert_close(costs(model, batch, z), torch.full((4,), COST), atol=0.03, rtol=0.0)


def test_latents_are_calibrated_one_by_one_and_stay_apart(bundled: Backbone, batch: Batch) -> None:
    torch.manual_seed(0)
    model = LatentLM(bundled, {"a": Categorical(3), "b": Normal(4)}, PooledRouter, KeyValuePrefix)
    calibrate(model, batch, COST)
    model.conditionings["b"].strength = 0.0
    z = {"a": torch.arange(3)[:, None], "b": torch.zeros(4)}
    torch.testing.assert_close(costs(model, batch, z), torch.full((3,), COST), atol=0.03, rtol=0.0)
    weight = model.conditionings["a"].weight
    assert torch.pdist(weight).min() > 0.1 * weight.norm(dim=1).mean()


def test_a_cost_out_of_reach_takes_the_nearer_end(bundled: Backbone, batch: Batch) -> None:
    """A soft token acts through its direction, whatever its length, so that no factor makes it cost nothing."""
    torch.manual_seed(0)
    model = LatentLM(bundled, {"z": Categorical(2)}, PooledRouter, SlotTokens)
    weight = model.conditionings["z"].weight
    before = weight.norm().item()
    calibrate(model, batch, 1e-9)
    assert weight.norm().item() == pytest.approx(before / 64, rel=0.02)


@pytest.mark.parametrize("cost", [0.0, -1.0, float("nan")])
def test_a_cost_that_is_not_above_0_is_refused(bundled: Backbone, batch: Batch, cost: float) -> None:
    model = LatentLM(bundled, {"z": Categorical(2)}, PooledRouter, KeyValuePrefix)
    with pytest.raises(ValueError, match="cost"):
        calibrate(model, batch, cost)


def test_a_batch_without_responses_is_refused(bundled: Backbone, batch: Batch) -> None:
    model = LatentLM(bundled, {"z": Categorical(2)}, PooledRouter, KeyValuePrefix)
    with pytest.raises(ValueError, match="responses"):
        calibrate(model, replace(batch, response=None, response_mask=None), COST)
