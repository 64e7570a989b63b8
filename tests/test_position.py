"""How early latent, strategy and nuisance can be read, against sums over every prefix."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module

import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.dataset import Dataset
from stratagem.inference.evaluation import posteriors
from stratagem.inference.evaluation.meaning import posterior_figures
from stratagem.inference.evaluation.position import half, positions, prefix_posterior
from stratagem.inference.evaluation.task_law import task_law
from stratagem.inference.evaluation.use import use
from stratagem.models import Batch, Categorical, Example, KeyValuePrefix, LatentLM, PooledRouter
from stratagem.models.text import encode
from stratagem.tasks import Addition, BaseConversion, Equations, Mixture, Sorting, StepTask, Task
from torch import Tensor, nn

from .fit_fixtures import tiny_backbone, tiny_data
from .known_law_fixtures import Ignorant, KnownLatents, every_pair, known, one_hot

EXACT = {"rtol": 0.0, "atol": 1e-9}

module = import_module("stratagem.inference.evaluation.position")


def toy() -> tuple[LatentLM, AmortizedGuide, Dataset]:
    """Two latents on a random LM, and responses of different lengths."""
    torch.manual_seed(0)
    backbone = tiny_backbone(dtype=torch.float64)
    entry = partial(KeyValuePrefix, length=2, init_scale=2.0)
    latents = {"a": Categorical(3), "b": Categorical(2)}
    model = LatentLM(backbone, latents, PooledRouter, entry).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "routers" in name and weight.requires_grad:
                weight.normal_()
    data = tiny_data(backbone, 10, length=6)
    cut = [replace(e, response=e.response[: 1 + n % 6]) for n, e in enumerate(data.examples)]
    return model, AmortizedGuide(model).double(), replace(data, examples=cut)


@torch.no_grad()
def one_by_one(model: LatentLM, example: Example, t: int) -> Tensor:
    """``log p(z|x,y_<=t)``, ``(6,)``, from a batch of one that holds t tokens and one value of z."""
    prompt = torch.tensor([example.prompt])
    batch = Batch(prompt, torch.ones_like(prompt, dtype=torch.bool))
    router, out = model.router(batch), []
    for b in range(2):
        for a in range(3):
            z = {"a": torch.tensor([a]), "b": torch.tensor([b])}
            log_p = sum(router[name].log_prob(value) for name, value in z.items())
            if t:
                read = torch.tensor([example.response[:t]])
                seen = Batch(prompt, batch.prompt_mask, read, torch.ones_like(read, dtype=torch.bool))
                log_p = log_p + model.decoder(seen, z).log_prob(read)
            out.append(log_p)
    return torch.cat(out).log_softmax(0)


def law_of_the_prefixes() -> None:
    """Every prefix scored as a response of its own, at its end the whole."""
    model, guide, data = toy()
    found = prefix_posterior(model, guide, data, batch_size=4)
    longest = max(len(e.response) for e in data.examples)
    assert found.shape == (6, 10, longest + 1)
    for n, example in enumerate(data.examples):
        for t in range(longest + 1):
            expected = one_by_one(model, example, min(t, len(example.response)))
            torch.testing.assert_close(found[:, n, t], expected, **EXACT)


def test_the_posterior_given_a_prefix_is_that_of_the_prefix_alone() -> None:
    law_of_the_prefixes()


UNEQUAL = Addition(
    strategies=("carry", "left", "complement"),
    strategy_weights=(0.6, 0.3, 0.1),
    nuisances=(";", "|", "/"),
    nuisance_weights=(0.5, 0.3, 0.2),
)


def shares(task: Task, backbone: object, prompt: str, read: Sequence[int]) -> tuple[list[float], list[float]]:
    """Laws of strategy and nuisance among all traces that begin with what was read, by counting them."""
    pairs = {
        (s, n): p_s * p_n
        for s, p_s in task.admissible(prompt).items()
        for n, p_n in zip(task.nuisances, task.nuisance_weights, strict=True)
        if encode(backbone, prompt, task.trace(prompt, s, n)).response[: len(read)] == tuple(read)
    }
    whole = sum(pairs.values())
    return (
        [sum(p for (s, _), p in pairs.items() if s == one) / whole for one in task.strategies],
        [sum(p for (_, n), p in pairs.items() if n == one) / whole for one in task.nuisances],
    )


def law_of_the_mixture() -> None:
    """A latent that is the strategy, of unequal weights, has the strategy's posterior, by counting traces."""
    prompts = UNEQUAL.prompts(4, "test", 0)
    model, guide, data = known(UNEQUAL, prompts, lambda _, s, __: one_hot(s, 3), 3)
    found = prefix_posterior(model, guide, data, batch_size=5).exp()
    for n, (prompt, example) in enumerate(zip(data.prompts, data.examples, strict=True)):
        for t in range(found.shape[-1]):
            expected = torch.tensor(shares(UNEQUAL, model.backbone, prompt, example.response[:t])[0]).double()
            torch.testing.assert_close(found[:, n, t], expected, rtol=0, atol=1e-6)


def test_the_posterior_of_a_latent_that_is_the_strategy_is_the_strategys() -> None:
    law_of_the_mixture()


def without_prior(log_prior: Tensor, log_p: Tensor) -> Tensor:
    return RIGHT(torch.zeros_like(log_prior), log_p)


def one_token_late(log_prior: Tensor, log_p: Tensor) -> Tensor:
    return RIGHT(log_prior, nn.functional.pad(log_p, (1, 0))[..., :-1])


def one_token_early(log_prior: Tensor, log_p: Tensor) -> Tensor:
    return RIGHT(log_prior + log_p[..., 0], nn.functional.pad(log_p, (0, 1))[..., 1:])


def last_token_alone(log_prior: Tensor, log_p: Tensor) -> Tensor:
    return (log_prior[..., None] + nn.functional.pad(log_p, (1, 0))).log_softmax(0)


RIGHT = module.after_tokens


@pytest.mark.parametrize("law", [law_of_the_prefixes, law_of_the_mixture])
@pytest.mark.parametrize("wrong", [without_prior, one_token_late, one_token_early, last_token_alone])
def test_wrong_posteriors_are_told(
    law: Callable[[], None], wrong: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "after_tokens", wrong)
    with pytest.raises(AssertionError):
        law()


def test_the_curves_end_in_the_figures_of_the_evaluation() -> None:
    """Information as ``use/mutual_information`` has it, and the same adjusted mutual information as under meaning."""
    model, guide, data = toy()
    found = positions(model, guide, data, None, 4)
    seen = posteriors(model, guide, data, 3)
    expected = use(seen)
    for ending in ("", "_se"):
        curve = found.columns[f"information{ending}"]
        assert float(curve[-1]) == pytest.approx(expected[f"use/mutual_information{ending}"], abs=1e-9)
        assert float(curve[0]) == 0
    assert found.figures["position/information"] == pytest.approx(expected["use/mutual_information"])
    rng = random.Random(0)
    told = {(s, n): rng.randrange(3) for s in range(4) for n in range(2)}
    task = Sorting(length=4)
    drawn, guide_, data = known(task, task.prompts(12, "test", 0), lambda _, s, n: one_hot(told[s, n], 3), 3)
    curves = positions(drawn, guide_, data, task, 16).columns
    posterior = prefix_posterior(drawn, guide_, data)[..., -1].exp().T
    meaning = posterior_figures(task, data.prompts, data.responses, posterior)
    assert float(curves["strategy_ami"][-1]) == pytest.approx(meaning["meaning/ami"])
    assert float(curves["nuisance_ami"][-1]) == pytest.approx(meaning["meaning/nuisance_ami"])
    assert 0.05 < meaning["meaning/ami"] < 0.95


def test_a_response_that_has_ended_keeps_its_last_value_and_is_counted_no_more() -> None:
    model, guide, data = toy()
    found = positions(model, guide, data, None)
    lengths = [len(e.response) for e in data.examples]
    longest = max(lengths)
    assert set(lengths) == set(range(1, longest + 1))
    assert found.columns["tokens"].tolist() == list(range(longest + 1))
    assert found.columns["data"].tolist() == [sum(n >= t for n in lengths) for t in range(longest + 1)]
    each = prefix_posterior(model, guide, data)
    for n, length in enumerate(lengths):
        assert (each[:, n, length:] == each[:, n, length : length + 1]).all()
    again = Dataset(
        [*data.examples, Example(data.examples[0].prompt, data.examples[0].response * 3)],
        ["p"] * 11,
        ["r"] * 11,
        data.pad_id,
    )
    longer = prefix_posterior(model, guide, again, batch_size=11)
    torch.testing.assert_close(longer[:, :10, longest], each[..., -1], **EXACT)
    torch.testing.assert_close(longer[:, :10, -1], each[..., -1], **EXACT)


TASKS: list[StepTask] = [
    Sorting(length=3, nuisances=(";", "|", "/")),
    Equations(),
    BaseConversion(bases=(4, 5)),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("choice", ["strategy", "nuisance"])
def test_a_latent_that_is_a_choice_has_the_curve_of_the_task(task: StepTask, choice: str) -> None:
    """Over every response of the mixture, each as often as it is likely; strategies open to all prompts or some."""
    P = len(task.strategies) if choice == "strategy" else len(task.nuisances)
    prompts = task.prompts(40, "test", 0)
    prompts = [p for p in prompts if len(task.admissible(p)) == len(task.admissible(prompts[0]))][:6]

    def given(_: str, s: int, n: int) -> Tensor:
        return one_hot(s if choice == "strategy" else n, P)

    model, guide, data = known(task, prompts, given, P)
    curve = positions(model, guide, data, task, 7).columns
    law = task_law(model.backbone, task, prompts)
    torch.testing.assert_close(curve["information"], law[f"{choice}_information"], rtol=0, atol=1e-6)
    for name, expected in law.items():
        torch.testing.assert_close(curve[name], expected, **EXACT)


@pytest.mark.parametrize("task", [UNEQUAL, TASKS[0], TASKS[2]], ids=["unequal", "sorting", "conversion"])
def test_the_law_of_a_task_is_a_count_of_its_traces(task: StepTask) -> None:
    backbone = tiny_backbone(words=task.vocabulary)
    prompts = task.prompts(3, "test", 1)
    found = task_law(backbone, task, prompts)
    for t in range(len(found["strategy_information"])):
        sums = dict.fromkeys(found, 0.0)
        for prompt in prompts:
            priors = shares(task, backbone, prompt, [])
            for s, p_s in task.admissible(prompt).items():
                for n, p_n in zip(task.nuisances, task.nuisance_weights, strict=True):
                    read = encode(backbone, prompt, task.trace(prompt, s, n)).response[:t]
                    laws = shares(task, backbone, prompt, read)
                    for choice, law, prior in zip(("strategy", "nuisance"), laws, priors, strict=True):
                        kl = sum(p * math.log(p / q) for p, q in zip(law, prior, strict=True) if p > 0)
                        sums[f"{choice}_information"] += p_s * p_n * kl / len(prompts)
                        sums[f"{choice}_certainty"] += p_s * p_n * max(law) / len(prompts)
        for name, value in sums.items():
            assert float(found[name][t]) == pytest.approx(value, abs=1e-9), (name, t)


def test_the_mark_is_known_once_it_has_been_read() -> None:
    """The first list has five digits: nothing of log 3 before the sixth token, all of it from there."""
    task = Sorting(nuisances=(";", "|", "/"))
    law = task_law(tiny_backbone(words=task.vocabulary), task, task.prompts(20, "test", 0))
    expected = [0.0] * 6 + [math.log(3)] * (len(law["nuisance_information"]) - 6)
    assert law["nuisance_information"].tolist() == pytest.approx(expected, abs=1e-9)
    assert law["nuisance_certainty"].tolist() == pytest.approx([1 / 3] * 6 + [1] * (len(expected) - 6))
    assert half(law["nuisance_information"]) == 6


def test_strategies_with_a_common_beginning_are_known_where_they_part() -> None:
    task = Equations(strategies=("terms", "divide"))
    prompts = [p for p in task.prompts(40, "test", 0) if len(task.admissible(p)) == 2][:5]
    backbone = tiny_backbone(words=task.vocabulary)
    for prompt in prompts:
        one, other = (task.trace(prompt, s, ";").split() for s in task.strategies)
        parting = next(t for t, (a, b) in enumerate(zip(one, other, strict=False), 1) if a != b)
        curve = task_law(backbone, task, [prompt])["strategy_information"]
        expected = [0.0] * parting + [math.log(2)] * (len(curve) - parting)
        assert parting > 5
        assert curve.tolist() == pytest.approx(expected, abs=1e-9)


def test_in_a_mixture_of_tasks_each_prompt_has_the_law_of_its_own() -> None:
    """With marks of another frequency in either task."""
    parts = [Sorting(nuisance_weights=(0.9, 0.1)), Addition(nuisance_weights=(0.3, 0.7))]
    whole = Mixture(parts)
    backbone = tiny_backbone(words=whole.vocabulary)
    for part in parts:
        prompts = part.prompts(3, "test", 0)
        of_part, of_whole = (task_law(backbone, task, prompts) for task in (part, whole))
        for name, curve in of_part.items():
            torch.testing.assert_close(of_whole[name], curve, **EXACT)


def test_without_a_task_the_latent_stands_alone() -> None:
    model, guide, data = toy()
    found = positions(model, guide, data, None)
    assert list(found.columns) == ["tokens", "data", "information", "information_se"]
    assert found.reading is None


def test_responses_that_follow_nothing_leave_the_reading_open() -> None:
    task = TASKS[0]
    prompts = task.prompts(4, "test", 0)
    data = every_pair(task, prompts)
    model = KnownLatents(task, data, tiny_backbone(words=task.vocabulary), lambda _, s, __: one_hot(s, 4), 4)
    foreign = Dataset(data.examples, data.prompts, ["0 0"] * len(data), data.pad_id)
    found = positions(model, Ignorant(4), foreign, task)
    assert found.reading is None
    assert {"strategy_ami", "nuisance_ami"}.isdisjoint(found.columns)
    assert "nuisance_information" in found.columns
