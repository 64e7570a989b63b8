"""The figures of an evaluation on cases whose answer is known."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.data import TaskData
from stratagem.inference.dataset import Dataset
from stratagem.inference.evaluation import Posteriors, evaluate, posteriors
from stratagem.inference.evaluation.fidelity import fidelity
from stratagem.inference.evaluation.statistics import mean_se, ratio_se
from stratagem.inference.evaluation.use import use
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Example,
    KeyValuePrefix,
    Latent,
    LatentLM,
    LearnedPrior,
    Normal,
    PooledRouter,
    UniformPrior,
)
from stratagem.models.generation import generate
from torch import Tensor, nn

from .fit_fixtures import tiny_backbone, tiny_data
from .meaning_fixtures import TASK, certain


def test_standard_errors_are_those_of_a_bootstrap() -> None:
    numbers = torch.Generator().manual_seed(0)
    bottom = torch.randint(1, 20, (300,), generator=numbers).double()
    top = 0.3 * bottom + torch.randn(300, generator=numbers).double() * bottom.sqrt()
    again = torch.randint(300, (4000, 300), generator=numbers)
    means, ratios = top[again].mean(1), top[again].mean(1) / bottom[again].mean(1)
    assert mean_se(top) == pytest.approx((float(top.mean()), float(means.std())), rel=0.05)
    assert ratio_se(top, bottom) == pytest.approx(
        (float(top.sum() / bottom.sum()), float(ratios.std())), rel=0.05
    )
    assert mean_se([2.0]) == (2.0, 0.0)


def latent_lm(
    latents: Mapping[str, Latent] | None = None, router: Any = PooledRouter, init_scale: float = 1.0
) -> tuple[LatentLM, AmortizedGuide]:
    """A model and a guide, away from their start."""
    torch.manual_seed(1)
    entry = partial(KeyValuePrefix, length=2, init_scale=init_scale)
    model = LatentLM(tiny_backbone(), latents or {"z": Categorical(3)}, router, entry)
    guide = AmortizedGuide(model)
    with torch.no_grad():
        for name, weight in nn.ModuleDict({"model": model, "guide": guide}).named_parameters():
            if weight.requires_grad and "conditionings" not in name:
                weight.normal_(0, 0.05)
    return model, guide


def test_strength_0_is_the_base_to_the_last_digits() -> None:
    model, guide = latent_lm()
    data = tiny_data(model.backbone, 20)
    touched = fidelity(posteriors(model, guide, data, 8))
    assert touched["fidelity/kl_per_token"] > 0.01
    model.set_strength(0)
    seen = posteriors(model, guide, data, 8)
    found = fidelity(seen) | use(seen)
    assert abs(found["fidelity/kl_per_token"]) < 1e-6
    assert abs(found["fidelity/kl_per_sequence"]) < 1e-6
    assert found["fidelity/exact"] == 1
    assert abs(found["use/mutual_information"]) < 1e-6
    assert found["use/verdict"] == 0


def test_strategies_that_are_all_the_same_are_a_collapse() -> None:
    model, guide = latent_lm()
    with torch.no_grad():
        weight = model.conditionings["z"].weight
        weight.copy_(weight[:1].expand_as(weight))
    found = use(posteriors(model, guide, tiny_data(model.backbone, 20), 8))
    assert abs(found["use/mutual_information"]) < 1e-6
    assert found["use/verdict"] == 0


class Separated(nn.Module):
    """``z`` uniform over K values and the response's only token says which; the base is the mixture."""

    latents: Mapping[str, Latent]

    def __init__(self, K: int) -> None:
        super().__init__()
        self.K, self.latents = K, {"z": Categorical(K)}
        self.backbone = nn.Linear(1, 1)
        self.backbone.device = torch.device("cpu")

    def base(self, batch: Batch) -> dist.TorchDistribution:
        return dist.Categorical(torch.full((len(batch), 1, self.K), 1 / self.K)).to_event(1)

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            z = pyro.sample("z", dist.Categorical(torch.full((len(batch), self.K), 1 / self.K)))
            law = dist.Categorical(nn.functional.one_hot(z, self.K).double()[..., None, :]).to_event(1)
            pyro.sample("y", law, obs=batch.response)


class Read(nn.Module):
    """The guide that reads the token."""

    def __init__(self, K: int) -> None:
        super().__init__()
        self.K = K

    def forward(self, batch: Batch) -> None:
        assert batch.response is not None
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Categorical(certain(batch.response[:, 0].tolist(), self.K)))


@pytest.mark.parametrize("K", [2, 5])
def test_strategies_that_never_meet_share_log_k(K: int) -> None:
    examples = [Example((0,), (k,)) for k in range(K)] * 3
    data = Dataset(examples, ["p"] * len(examples), ["r"] * len(examples), 0)
    seen = posteriors(Separated(K), Read(K), data, 4)
    found = use(seen) | fidelity(seen)
    assert found["use/mutual_information"] == pytest.approx(math.log(K), abs=1e-5)
    assert found["use/ceiling"] == pytest.approx(math.log(K), abs=1e-5)
    assert found["use/verdict"] == 2
    assert found["use/usage"] == pytest.approx(K, abs=1e-4)
    assert [found[f"use/usage/{k}"] for k in range(K)] == pytest.approx([1 / K] * K)
    assert found["use/kl_router"] == pytest.approx(math.log(K), abs=1e-5)
    assert found["use/posterior_gap"] == pytest.approx(0, abs=1e-5)
    assert found["fidelity/kl_per_sequence"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("information", "verdict"),
    [([1.0] * 8, 2), ([0.69] * 8, 1), ([0.06] * 8, 0), ([4.0] + [0.0] * 7, 0), ([0.0] * 8, 0)],
    ids=["used", "weak", "below the least share", "within its error", "nothing"],
)
def test_the_verdict_is_by_share_of_the_ceiling(information: list[float], verdict: int) -> None:
    """Of a ceiling of log 4 = 1.386: used from a half, weak from a twentieth if it is beyond its error."""
    entropy = torch.full((8,), math.log(4))
    values = torch.tensor(information)
    seen = Posteriors(
        True, -3 * torch.ones(8), -3 * torch.ones(8), values, values, torch.ones(8), router_entropy=entropy
    )
    assert use(seen)["use/verdict"] == verdict
    responses = replace(seen, log_base=torch.full((8,), -0.5))
    assert use(responses)["use/ceiling"] == 0.5, "z cannot tell more than there is to tell"


def test_fidelity_per_token_weighs_sequences_by_their_length() -> None:
    gap, lengths = torch.tensor([2.0, 0.0]), torch.tensor([8, 2])
    seen = Posteriors(True, gap - 5, torch.full((2,), -5.0), gap, gap, lengths)
    found = fidelity(seen)
    assert found["fidelity/kl_per_token"] == pytest.approx(0.2)
    assert found["fidelity/kl_per_sequence"] == pytest.approx(1.0)


def quadrature(model: LatentLM, data: Dataset, num: int = 801) -> Tensor:
    """``log p(y|x)`` of a model with one standard normal latent of dimension 1, on a grid, ``(N,)``."""
    grid = torch.linspace(-6, 6, num)
    batch = data.batch(range(len(data)))
    with torch.no_grad():
        log_lik = model.decoder(batch, {"z": grid[:, None, None]}).log_prob(batch.response)
    log_prior = dist.Normal(0.0, 1.0).log_prob(grid) + math.log(12 / (num - 1))
    return (log_lik + log_prior[:, None]).logsumexp(0)


def test_importance_weighted_fidelity_is_above_the_truth_and_comes_down_to_it() -> None:
    model, guide = latent_lm({"z": Normal(1)}, UniformPrior, init_scale=2.0)
    data = tiny_data(model.backbone, 6)
    log_base = posteriors(model, guide, data, 8, 1).log_base
    truth = float((log_base - quadrature(model, data)).mean())
    means, errors = [], []
    for particles in (1, 8, 64):
        torch.manual_seed(0)
        runs = [posteriors(model, guide, data, 8, particles) for _ in range(60)]
        gaps = [fidelity(seen)["fidelity/kl_per_sequence"] for seen in runs]
        assert all(fidelity(seen)["fidelity/exact"] == 0 for seen in runs)
        mean, error = mean_se(gaps)
        means.append(mean)
        errors.append(error)
    # 4 standard errors on three means: a false alarm once in 5000 seeds, of which this is one.
    assert all(mean > truth - 4 * error for mean, error in zip(means, errors, strict=True))
    assert means[0] > truth + 4 * errors[0], "with one particle the bound is loose"
    assert means[0] > means[1] > means[2]
    assert means[2] == pytest.approx(truth, abs=0.05)


LATENTS: dict[str, dict[str, Latent]] = {
    "categorical": {"z": Categorical(3)},
    "two": {"a": Categorical(3), "b": Categorical(2)},
    "normal": {"z": Normal(2)},
    "mixed": {"z": Categorical(3), "style": Normal(2)},
}


def test_joint_strategies_have_one_order_everywhere() -> None:
    """Of posteriors and of forced outputs, the first latent changes fastest."""
    model, guide = latent_lm(LATENTS["two"])
    data = tiny_data(model.backbone, 4)
    seen = posteriors(model, guide, data, 8)
    assert seen.router is not None
    forced = generate(model, data.prompts, "all", max_new_tokens=1)
    assert [g.z for g in forced[:6]] == [{"a": a, "b": b} for b in range(2) for a in range(3)]
    router = torch.tensor([g.router for g in forced]).reshape(4, 6)
    torch.testing.assert_close(router, seen.router, rtol=0, atol=1e-6)


def task_backbone() -> Backbone:
    return tiny_backbone(words=TASK.vocabulary)


@pytest.mark.parametrize("kind", sorted(LATENTS))
def test_an_evaluation_is_a_function_of_its_seed(kind: str, tmp_path: Path) -> None:
    """Finite numbers by name, the same for the same seed, and the global generator left alone."""
    torch.manual_seed(0)
    model = LatentLM(task_backbone(), LATENTS[kind], LearnedPrior, KeyValuePrefix)
    guide = AmortizedGuide(model)
    data = TaskData(TASK, num_train=5, num_test=12, max_new_tokens=6)
    found = []
    for noise, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + noise)
        before = torch.get_rng_state()
        found.append(evaluate(model, guide, data, seed, tmp_path, batch_size=5).figures)
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
    assert found[0] != found[2]
    figures = found[0]
    assert all(math.isfinite(value) for value in figures.values())
    assert json.loads(json.dumps(figures)) == figures
    always = (
        "fidelity/kl_per_token",
        "fidelity/kl_per_token_se",
        "fidelity/kl_per_sequence",
        "fidelity/exact",
    )
    always += (
        "use/mutual_information",
        "use/ceiling",
        "use/verdict",
        "skill/accuracy",
        "skill/accuracy_base",
    )
    exact = (
        "use/usage",
        "meaning/alignment",
        "meaning/alignment_chance",
        "meaning/purity",
        "skill/accuracy_forced_min",
    )
    assert set(always) <= set(figures)
    assert (set(exact) <= set(figures)) == (kind in ("categorical", "two"))
    if kind in ("normal", "mixed"):
        assert figures[f"use/active_units/{'style' if kind == 'mixed' else 'z'}"] in (0, 1, 2)
        assert ("use/active_units/z" in figures) == (kind == "normal")


def test_an_evaluation_takes_each_prompt_once_up_to_the_limit(tmp_path: Path) -> None:
    model = LatentLM(task_backbone(), {"z": Categorical(2)}, UniformPrior, KeyValuePrefix)
    data = TaskData(TASK, num_train=5, num_test=12, max_new_tokens=4)
    found = evaluate(model, AmortizedGuide(model), data, 0, tmp_path, limit=7)
    assert len(found.data) == len(set(found.data.prompts)) == 7
    assert found.data.prompts == data.texts("test", 0).prompts[:7]
    assert found.verdict in ("collapsed", "weak", "used")
