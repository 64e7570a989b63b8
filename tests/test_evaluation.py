"""The figures of an evaluation on cases whose answer is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from stratagem.guides import AmortizedGuide
from stratagem.inference.data import TaskData
from stratagem.inference.dataset import Dataset
from stratagem.inference.evaluation import Posteriors, evaluate, posteriors
from stratagem.inference.evaluation.fidelity import fidelity
from stratagem.inference.evaluation.meaning import (
    alignment,
    matched,
    output_figures,
    per_prompt_alignment,
    posterior_figures,
    telling,
)
from stratagem.inference.evaluation.skill import OfBase, skill
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
from stratagem.tasks import Sorting
from torch import Tensor, nn

from .fit_fixtures import tiny_backbone, tiny_data

TASK = Sorting()
S = len(TASK.strategies)
RNG = random.Random(0)

every_prompt = TASK.prompts(300, "test", 0)
TELLING = [p for p, row in zip(every_prompt, telling(TASK, every_prompt), strict=True) if row.all()][:120]
MUTE = [p for p, row in zip(every_prompt, telling(TASK, every_prompt), strict=True) if not row.any()]


def traces(choice: Any, prompts: list[str] = TELLING) -> list[list[str]]:
    """Outputs of latents that follow strategy ``choice[k]``, or ``choice(k, n)``, with any nuisance."""
    ks = range(len(choice)) if not callable(choice) else range(S)
    pick = choice if callable(choice) else lambda k, n: choice[k]  # noqa: ARG005
    return [
        [
            TASK.trace(p, TASK.strategies[pick(k, n)], RNG.choice(TASK.nuisances))
            for n, p in enumerate(prompts)
        ]
        for k in ks
    ]


def figures_of(outputs: list[list[str]], usage: Any = None, prompts: list[str] = TELLING) -> dict[str, float]:
    weights = np.ones(len(outputs)) if usage is None else np.array(usage)
    found = output_figures(TASK, prompts, outputs, weights / weights.sum(), "")
    return {name.removeprefix("meaning/"): value for name, value in found.items()}


def test_there_are_prompts_of_either_kind() -> None:
    assert len(TELLING) == 120
    assert MUTE
    assert all(len({TASK.trace(p, s, ";") for s in TASK.strategies}) < S for p in MUTE)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_one_latent_a_strategy_is_perfect_whatever_its_number(order: tuple[int, ...]) -> None:
    found = figures_of(traces(order))
    assert (found["alignment"], found["purity"], found["coverage"]) == (1, 1, 1)
    assert found["per_prompt_gap"] == pytest.approx(0)
    assert found["alignment_se"] == 0


def test_labels_that_change_from_prompt_to_prompt_show_in_the_gap() -> None:
    found = figures_of(traces(lambda k, n: (k + n) % S))
    assert found["alignment"] == pytest.approx(1 / S)
    assert found["purity"] == pytest.approx(1 / S)
    assert found["coverage"] == 1
    assert found["per_prompt_gap"] == pytest.approx(1 - 1 / S)


def test_a_strategy_without_a_latent_counts_nothing() -> None:
    found = figures_of(traces((3, 1)))
    assert (found["alignment"], found["purity"], found["coverage"]) == (0.5, 1, 0.5)
    assert found["per_prompt_gap"] == pytest.approx(0)


def test_a_latent_without_a_strategy_takes_nothing_from_the_alignment() -> None:
    mixed = traces(lambda k, n: (k + n) % S)[0]
    outputs = [*traces((0, 1, 2, 3)), mixed, mixed]
    found = figures_of(outputs)
    assert found["alignment"] == 1
    assert found["purity"] == pytest.approx((4 + 2 / S) / 6)
    assert figures_of(outputs, usage=[1, 1, 1, 1, 0, 0])["purity"] == 1
    assert figures_of(outputs, usage=[0, 0, 0, 0, 1, 1])["purity"] == pytest.approx(1 / S)


def test_the_matching_is_the_best_and_not_the_greedy_one() -> None:
    rows, columns = matched(np.array([[0.9, 0.8], [0.8, 0.0]]))
    assert sorted(zip(rows, columns, strict=True)) == [(0, 1), (1, 0)]


def test_prompts_that_cannot_tell_strategies_apart_do_not_count() -> None:
    outputs = [row + ["0 0 0"] * len(MUTE) for row in traces((0, 1, 2, 3))]
    assert figures_of(outputs, prompts=TELLING + MUTE) == figures_of(traces((0, 1, 2, 3)))


def test_nonsense_follows_nothing() -> None:
    found = figures_of([["0 0 0"] * len(TELLING)] * S)
    assert set(found.values()) == {0.0}


def test_chance_lies_between_one_over_s_and_a_half() -> None:
    """Outputs that do not depend on z: each column of A is the strategies' own frequency, up to noise."""
    outputs = traces(lambda k, n: RNG.randrange(S))  # noqa: ARG005
    found = figures_of(outputs)
    error = math.sqrt(0.25 * 0.75 / len(TELLING))
    assert abs(found["purity"] - 1 / S) < 1 / S
    assert 1 / S - 4 * error < found["alignment"] < 1 / S + 4 * error
    assert found["per_prompt_gap"] > 0.3


Sample = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""What the outputs to fresh prompts follow, ``(K, N, S)``, and the prompts that count, ``(N, S)``."""


def with_nonsense(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(S)[:, None] * (rng.random((S, 300, 1)) > 0.2), np.ones((300, S), dtype=bool)


def with_labels_swapped(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    swapped = np.eye(S)[[1, 0, *range(2, S)]]
    here = rng.random((300, 1)) < 1 / 3
    return np.where(here, swapped[:, None], np.eye(S)[:, None]), np.ones((300, S), dtype=bool)


def with_a_strategy_rarely_open(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    followed, counted = np.eye(S)[:, None].repeat(300, 1), np.ones((300, S), dtype=bool)
    counted[:, -1] = rng.random(300) < 0.1
    followed[-1] *= counted[:, -1:] & (rng.random((300, 1)) > 0.3)
    return followed, counted


def with_latents_to_spare(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    followed, counted = with_nonsense(rng)
    return np.concatenate([followed, np.eye(S)[rng.integers(S, size=(2 * S, 300))]]), counted


SAMPLES = (with_nonsense, with_labels_swapped, with_a_strategy_rarely_open, with_latents_to_spare)


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_error_of_the_alignment_is_its_spread_over_samples_of_prompts(sample: Sample) -> None:
    rng = np.random.default_rng(0)
    values, errors = zip(*(alignment(*sample(rng)) for _ in range(400)), strict=True)
    # The spread of 400 values is known to 4 %.
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("values", [2, S, 2 * S])
def test_the_gap_is_never_below_zero(values: int) -> None:
    """Whatever is open where: one matching for all prompts is among those of each prompt."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        counted = rng.random((30, S)) < rng.random(S)
        followed = np.eye(S)[rng.integers(S, size=(values, 30))]
        assert per_prompt_alignment(followed, counted) >= alignment(followed, counted)[0] - 1e-12


def test_strategies_that_are_not_always_open_open_no_gap() -> None:
    followed, counted = with_a_strategy_rarely_open(np.random.default_rng(0))
    for kept in (slice(None), slice(1, None)):
        found = alignment(followed[kept], counted)[0]
        assert per_prompt_alignment(followed[kept], counted) == pytest.approx(found)


def labelled(num: int = 200) -> tuple[list[str], list[str], list[int], list[int]]:
    """Prompts, responses, and the numbers of their strategies and nuisances, independent of each other."""
    rng = random.Random(1)
    prompts = [rng.choice(TELLING) for _ in range(num)]
    strategies = [rng.randrange(S) for _ in prompts]
    nuisances = [rng.randrange(2) for _ in prompts]
    responses = [
        TASK.trace(p, TASK.strategies[s], TASK.nuisances[n])
        for p, s, n in zip(prompts, strategies, nuisances, strict=True)
    ]
    return prompts, responses, strategies, nuisances


def certain(labels: list[int], K: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(labels), K).float()


def posterior_of(labels: list[int], K: int) -> dict[str, float]:
    prompts, responses, _, _ = labelled()
    found = posterior_figures(TASK, prompts, responses, certain(labels, K))
    return {name.removeprefix("meaning/"): value for name, value in found.items()}


def test_a_posterior_that_knows_the_strategy() -> None:
    _, _, strategies, _ = labelled()
    for labels, K in ((strategies, S), ([3 - s for s in strategies], S), ([s + 2 for s in strategies], 7)):
        found = posterior_of(labels, K)
        assert found["posterior_accuracy"] == 1
        assert found["ami"] == pytest.approx(1)
        assert found["ari"] == pytest.approx(1)
        assert abs(found["nuisance_ami"]) < 0.03


def test_a_posterior_that_knows_nothing_has_none_even_with_many_latents() -> None:
    _, _, strategies, _ = labelled()
    rng = random.Random(2)
    labels = [rng.randrange(24) for _ in strategies]
    found = posterior_of(labels, 24)
    assert abs(found["ami"]) < 0.05
    assert abs(found["ari"]) < 0.05
    assert abs(found["nuisance_ami"]) < 0.05
    assert normalized_mutual_info_score(strategies, labels) > 0.08, "which is why it is adjusted for chance"


def test_a_posterior_that_follows_the_nuisance() -> None:
    _, _, _, nuisances = labelled()
    found = posterior_of(nuisances, S)
    assert found["nuisance_ami"] == pytest.approx(1)
    assert abs(found["ami"]) < 0.05


def test_a_constant_tells_nothing_even_of_a_constant() -> None:
    """Two labellings that are each all the same agree perfectly, and share no information."""
    prompts, responses, strategies, nuisances = labelled()
    alike = [n for n, (s, m) in enumerate(zip(strategies, nuisances, strict=True)) if (s, m) == (0, 0)]
    found = posterior_figures(
        TASK, [prompts[n] for n in alike], [responses[n] for n in alike], certain([1] * len(alike), S)
    )
    assert (found["meaning/ami"], found["meaning/nuisance_ami"]) == (0, 0)


def test_responses_that_follow_none_or_several_do_not_count() -> None:
    prompts, responses, strategies, _ = labelled()
    mute = next(p for p in MUTE if len(TASK.strategies_of(p, TASK.trace(p, "bubble", ";"))) > 1)
    more = posterior_figures(
        TASK,
        [*prompts, mute, prompts[0]],
        [*responses, TASK.trace(mute, "bubble", ";"), "0 0"],
        certain([*strategies, 0, 1], S),
    )
    assert more["meaning/posterior_accuracy"] == 1
    none = posterior_figures(TASK, prompts[:2], ["0 0", "1 1"], certain([0, 1], S))
    assert none == {}


def test_skill_by_hand() -> None:
    prompts = TELLING[:4]
    right, wrong = traces((0,), prompts)[0], ["0 0 0"] * 4
    forced = [right, wrong, right[:2] + wrong[:2]]
    usage = [0.6, 0.001, 0.399]
    found = skill(TASK, prompts, [right[:3] + wrong[:1]], [OfBase(right)], [[row] for row in forced], usage)
    assert found["skill/accuracy"] == 0.75
    assert found["skill/accuracy_se"] == pytest.approx(0.25)
    assert found["skill/accuracy_base"] == 1
    assert [found[f"skill/accuracy_forced/{k}"] for k in range(3)] == [1, 0, 0.5]
    assert found["skill/accuracy_forced_min"] == 0.5, "a strategy that is not in use has no say"


def test_of_several_draws_each_prompt_counts_once() -> None:
    """Shares of right answers 1, 1, 1/2, 0 of ours and 1, 1/2, 1/2, 0 under z, of the base 1: errors over prompts."""
    prompts = TELLING[:4]
    right, wrong = traces((0,), prompts)[0], ["0 0 0"] * 4
    ours = [right[:3] + wrong[:1], right[:2] + wrong[:2]]
    under = [right[:3] + wrong[:1], right[:1] + wrong[:3]]
    found = skill(TASK, prompts, ours, [OfBase(right)] * 2, [under], [1.0])
    assert found["skill/accuracy"] == pytest.approx(5 / 8)
    assert found["skill/accuracy_se"] == pytest.approx(np.std([1, 1, 0.5, 0], ddof=1) / 2)
    assert found["skill/accuracy_base_se"] == 0
    assert found["skill/accuracy_forced_gap"] == pytest.approx(1 / 2)
    assert found["skill/accuracy_forced_gap_se"] == pytest.approx(np.std([0, 0.5, 0.5, 1], ddof=1) / 2)


def test_the_base_s_own_part_of_a_gap() -> None:
    """A base that is wrong under one of two values alone: that value, held to the base, is as wrong as it has to be."""
    prompts = TELLING[:100]
    right, wrong = traces((0,), prompts)[0], ["0 0 0"] * 100
    base = OfBase(wrong[:10] + right[10:], certain([1] * 20 + [0] * 80, 2))
    forced = [[right], [wrong[:50] + right[50:]]]
    found = skill(TASK, prompts, [right], [base], forced, [0.8, 0.2])
    assert found["skill/accuracy_forced_gap"] == pytest.approx(0.9 - 0.5)
    assert found["skill/accuracy_forced_gap_of_base"] == pytest.approx(0.9 - 0.5, abs=1e-6)
    influence = np.repeat([0 + 0.5 / 0.2, 1 - 0.5 / 0.2, 1], [10, 10, 80])
    assert found["skill/accuracy_forced_gap_of_base_se"] == pytest.approx(
        np.std(influence, ddof=1) / 10, rel=1e-5
    )
    unknown = skill(TASK, prompts, [right], [OfBase(base.texts)], forced, [0.8, 0.2])
    assert "skill/accuracy_forced_gap_of_base" not in unknown


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
