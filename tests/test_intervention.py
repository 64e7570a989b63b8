"""Strategies set from outside, request by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro import poutine
from stratagem.models import Backbone, Batch, Categorical, LatentLM, Normal, do, load_backbone
from torch import nn

MakeModel = Callable[..., LatentLM]
PROMPTS = ["sort 3 1 2 :", "sort 9 8 7 4 :", "sort 5 4 :"]
SETTINGS: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("bundled:strategies")


@pytest.fixture
def model(
    backbone: Backbone, make_model: MakeModel, randomise: Callable[[nn.Module, bool], None]
) -> LatentLM:
    torch.manual_seed(0)
    made = make_model(backbone, latents={"z": Categorical(4)})
    randomise(made, False)
    return made


def test_requests_with_different_strategies_share_a_batch(model: LatentLM) -> None:
    alone = [model.generate(p, z, **SETTINGS)[0] for p, z in zip(PROMPTS, (0, 3, 1), strict=True)]
    with do(z=[0, 3, 1]):
        together = model.generate(PROMPTS, **SETTINGS)
    assert [(g.z, g.text) for g in together] == [(g.z, g.text) for g in alone]
    assert together[1].router == pytest.approx(0.25)
    assert len({model.generate(PROMPTS[0], z, **SETTINGS)[0].text for z in range(4)}) > 1


def test_one_value_is_for_all_and_none_leaves_the_router_to_draw(model: LatentLM) -> None:
    with do(z=2):
        assert [g.z for g in model.generate(PROMPTS, n=2, **SETTINGS)] == [{"z": 2}] * 6
    torch.manual_seed(0)
    with do(z=[None, 1, None]):
        drawn = model.generate(PROMPTS, n=40, **SETTINGS)
    assert {g.z["z"] for g in drawn if g.prompt == PROMPTS[1]} == {1}
    for prompt in (PROMPTS[0], PROMPTS[2]):
        assert {g.z["z"] for g in drawn if g.prompt == prompt} == {0, 1, 2, 3}


def test_points_of_a_continuous_latent_and_of_one_latent_of_several(
    backbone: Backbone, make_model: MakeModel
) -> None:
    model = make_model(backbone, latents={"s": Categorical(3), "u": Normal(2)})
    with do(u=[[0.5, -1.0], None, torch.tensor([2.0, 0.0])]):
        points = [g.z["u"] for g in model.generate(PROMPTS, **SETTINGS)]
    assert points[0] == [0.5, -1.0]
    assert points[2] == [2.0, 0.0]
    assert points[1] not in (points[0], points[2])
    with do(u=[0.5, -1.0], s=1):
        assert [g.z for g in model.generate(PROMPTS, **SETTINGS)] == [{"s": 1, "u": [0.5, -1.0]}] * 3


def test_any_program_is_steered_and_the_law_of_the_site_stays(
    make_backbone: Callable[..., Backbone], make_batch: Callable[..., Batch], make_model: MakeModel
) -> None:
    gpt2 = make_backbone("gpt2")
    model, batch = make_model(gpt2), make_batch(gpt2)
    values = [k % 3 for k in range(len(batch))]
    with do(z=values):
        trace = poutine.trace(model).get_trace(batch)
    assert trace.nodes["z"]["value"].tolist() == values
    given = poutine.trace(poutine.condition(model, {"z": torch.tensor(values)})).get_trace(batch)
    torch.testing.assert_close(trace.log_prob_sum(), given.log_prob_sum())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"z": [0, 1]}, "z has 2 values, and there are 3 requests"),
        ({"z": 4}, "z=4: expected values in"),
        ({"z": [0, -1, None]}, "expected values in"),
        ({"z": 1.5}, "z=1.5: expected a whole number for a request, or None"),
        ({"z": "merge"}, "z=merge: expected a whole number"),
        ({"z": [[0], [1], [2]]}, "expected a whole number"),
        ({"style": 1}, "no program that ran draws a latent named style"),
        ({}, "expected a value for a latent by its name"),
    ],
)
def test_what_cannot_be_set_is_refused(model: LatentLM, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said), do(**values):
        model.generate(PROMPTS, **SETTINGS)


def test_a_value_that_is_given_twice_is_refused(model: LatentLM) -> None:
    with pytest.raises(ValueError, match="given a value elsewhere"), do(z=1):
        model.generate(PROMPTS, z=2, **SETTINGS)
