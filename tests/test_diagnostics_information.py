"""Estimates of information on models whose information is known, and when they are said to be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import pytest
import torch
from stratagem.inference.diagnosis import Subject
from stratagem.inference.diagnosis.diagnostics.information import LOOKED_UP, information, settled
from stratagem.inference.diagnosis.own_draws import own_draws
from stratagem.models import Batch, Categorical, Normal
from torch import Tensor, nn

from .finite_law_fixtures import WORDS, Bayes, Laws, Program, Site, Speak, subject_of

EXACT = {"rtol": 0.0, "atol": 1e-9}


def channel(wrong: float, P: int, site: str = "z") -> Speak:
    """One word, which is z but for a share ``wrong``, and then any of the others."""

    def speak(program: Program, _: Batch, z: Mapping[str, Tensor]) -> Laws:
        own = nn.functional.one_hot(z[site], P).double()
        law = (1 - wrong) * own + wrong / (P - 1) * (1 - own)
        return program.tokens(law[..., None, :])[None], torch.zeros(1, *z[site].shape)

    return speak


def known(wrong: float, P: int) -> float:
    """What the word of a uniform z tells of it."""
    entropy = -sum(p * math.log(p) for p in (wrong, 1 - wrong) if p > 0)
    return math.log(P) - entropy - wrong * math.log(P - 1)


def symmetric(
    wrong: float, P: int = 4, num: int = 300, seed: int = 0, guide: nn.Module | None = None
) -> Subject:
    program = Program({"z": Site(Categorical(P))}, channel(wrong, P))
    return subject_of(program, guide, num, seed)


def told(subject: Subject) -> dict[str, float]:
    return {name.removeprefix("information/"): x for name, x in information(subject).figures.items()}


@pytest.mark.parametrize("wrong", [0.0, 0.2, 0.75], ids=["separated", "noisy", "collapsed"])
def test_all_estimates_find_the_information_of_a_channel(wrong: float) -> None:
    found, truth = told(symmetric(wrong)), known(wrong, 4)
    for name in ("exact", "infonce", "aggregate", "guide"):
        assert found[name] == pytest.approx(truth, abs=4 * found[f"{name}_se"] + 0.01), name
        assert found[f"{name}_se"] < 0.06
    assert (found["infonce_trusted"], found["aggregate_trusted"]) == (1, 1)
    assert found["infonce_ceiling"] == math.log(LOOKED_UP + 1)
    assert found["prompt"] == pytest.approx(0, abs=1e-6)
    assert "lower" not in found


def divided(program: Program, batch: Batch, _: Mapping[str, Tensor]) -> Tensor:
    """One prompt in two may have any z, another has the first."""
    return torch.where(program.key(batch, 2)[:, None] == 0, 0.0, torch.tensor([12.0, 0.0, 0.0, 0.0]))


def test_what_the_prompt_tells_is_told_apart_from_what_the_response_tells() -> None:
    """The router's mean is (1 + 3b)/4, (1-b)/4 ..., where a share b of the prompts has the first value."""
    program = Program({"z": Site(Categorical(4), divided)}, channel(0.1, 4))
    subject = subject_of(program, num=400)
    found = told(subject)
    b = float((program.key(subject.data.batch(range(400)), 2) == 1).double().mean())
    assert 0.3 < b < 0.7
    mean = torch.tensor([(1 + 3 * b) / 4] + [(1 - b) / 4] * 3)
    prompt = float(-(mean * mean.log()).sum()) - (1 - b) * math.log(4)
    assert found["prompt"] == pytest.approx(prompt, abs=2 * found["prompt_se"])
    assert found["prompt_trusted"] == 1
    for name in ("exact", "infonce", "aggregate", "guide"):
        assert found[name] == pytest.approx((1 - b) * known(0.1, 4), abs=4 * found[f"{name}_se"]), name


@pytest.mark.parametrize("num", [8, 300])
def test_few_data_are_not_trusted(num: int) -> None:
    found = told(symmetric(0.2, num=num))
    assert (found["infonce_trusted"], found["aggregate_trusted"]) == ((0, 0) if num == 8 else (1, 1))


class Stubborn(nn.Module):
    """A guide that reads nothing, or one that has learned each datum's z by heart, of no matter to the model."""

    def __init__(self, P: int, sure: float) -> None:
        super().__init__()
        self.P, self.sure = P, sure

    def forward(self, batch: Batch) -> None:
        assert batch.index is not None
        with pyro.plate("data", len(batch), dim=-1):
            heart = nn.functional.one_hot(batch.index % self.P, self.P)
            pyro.sample("z", dist.Categorical(logits=self.sure * heart))


@pytest.mark.parametrize(("wrong", "sure"), [(0.75, 9.0), (0.0, 0.0)], ids=["by heart", "blind"])
def test_the_aggregate_of_a_wrong_guide_is_not_trusted(wrong: float, sure: float) -> None:
    """It is 1.4 nats too much, or too little, and the rest is not misled."""
    found = told(symmetric(wrong, guide=Stubborn(4, sure)))
    assert abs(found["aggregate"] - known(wrong, 4)) > 1.3
    assert found["aggregate_trusted"] == 0
    assert settled(found["aggregate"], found["aggregate_se"], found["aggregate_width"]), "the data are enough"
    assert found["infonce"] == pytest.approx(known(wrong, 4), abs=4 * found["infonce_se"] + 0.01)
    assert found["infonce_trusted"] == 1
    assert found["guide"] < 0.01


WORDS_TOLD = 6


def coins(program: Program, _: Batch, z: Mapping[str, Tensor]) -> Laws:
    """Six words, each of them one of two, with odds that z sets."""
    p = (2 * z["z"][..., 0]).sigmoid()
    law = torch.stack([p, 1 - p], -1)[..., None, :].expand(*p.shape, WORDS_TOLD, 2)
    return program.tokens(law)[None], torch.zeros(1, *p.shape)


GRID = torch.linspace(-6, 6, 2001, dtype=torch.float64)


def coin_table() -> tuple[Tensor, Tensor, Tensor]:
    """``p(z)`` on the grid, ``p(n|z)`` and ``p(z|n)`` of n heads, ``(G,)``, ``(G, 7)`` twice."""
    prior = dist.Normal(0.0, 1.0).log_prob(GRID).softmax(0)
    heads = torch.arange(WORDS_TOLD + 1, dtype=torch.float64)
    lik = dist.Binomial(WORDS_TOLD, logits=2 * GRID[:, None]).log_prob(heads).exp()
    joint = prior[:, None] * lik
    return prior, lik, joint / joint.sum(0)


def coin_information() -> float:
    prior, lik, posterior = coin_table()
    return float((prior[:, None] * lik * (posterior / prior[:, None]).log()).sum())


class Counting(nn.Module):
    """The normal law with the moments of the posterior of the coins, or one ``narrow`` times as wide, or ``aside``."""

    def __init__(self, program: Program, narrow: float = 1.0, aside: float = 0.0) -> None:
        super().__init__()
        self.first, self.narrow = program.backbone.tokenizer.convert_tokens_to_ids(WORDS[0]), narrow
        self.aside = aside

    def forward(self, batch: Batch) -> None:
        assert batch.response is not None
        heads = (batch.response == self.first).sum(1)
        posterior = coin_table()[2]
        mean = GRID @ posterior
        deviation = self.narrow * (GRID**2 @ posterior - mean**2).sqrt()
        with pyro.plate("data", len(batch), dim=-1):
            law = dist.Normal((mean + self.aside)[heads].float()[:, None], deviation[heads].float()[:, None])
            pyro.sample("z", law.to_event(1))


def test_of_a_continuous_latent_the_bounds_and_the_estimates_find_what_a_sum_over_a_grid_finds() -> None:
    program = Program({"z": Site(Normal(1))}, coins)
    found, truth = told(subject_of(program, Counting(program), 500)), coin_information()
    assert 0.5 < truth < 1
    assert found["upper"] - found["lower"] < 0.02
    for name in ("lower", "upper", "aggregate", "guide"):
        assert found[name] == pytest.approx(truth, abs=4 * found[f"{name}_se"]), name
    assert found["aggregate_trusted"] == 1
    assert found["infonce"] < truth < found["infonce"] + found["infonce_width"]
    assert found["infonce_ceiling"] == math.log(16)
    assert found["prompt"] == pytest.approx(0, abs=1e-9)
    assert "exact" not in found


def test_the_aggregate_of_a_guide_too_narrow_is_not_trusted_and_the_bounds_are() -> None:
    """It sees log 5 nats more than there are."""
    program = Program({"z": Site(Normal(1))}, coins)
    found, truth = told(subject_of(program, Counting(program, 0.2), 300)), coin_information()
    assert found["aggregate"] > truth + 1
    assert settled(found["aggregate"], found["aggregate_se"], found["aggregate_width"]), "the data are enough"
    assert found["aggregate_trusted"] == 0
    assert found["guide"] < 0
    assert found["lower"] - 4 * found["lower_se"] < truth < found["upper"] + 4 * found["upper_se"]
    assert found["lower"] >= found["infonce"]


class Renamed(nn.Module):
    """The posterior, each value by the name of the next."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = [program]

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            logits = self.program[0].log_joint(batch).roll(1, 0).T
            pyro.sample("z", dist.Categorical(logits=logits))


def test_the_aggregate_takes_off_what_guide_and_router_differ_by_on_all_data_alike() -> None:
    """A guide that is moved aside, or has other names for the values, tells as much of z and is far from the router."""

    def skewed(_: Program, batch: Batch, __: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor([0.85, 0.1, 0.05]).log().expand(len(batch), 3)

    program = Program({"z": Site(Normal(1))}, coins)
    subject = subject_of(program, Counting(program, aside=2.0), 400)
    found = told(subject)
    assert found["aggregate"] == pytest.approx(coin_information(), abs=4 * found["aggregate_se"])
    assert found["guide"] < 0
    words = Program({"z": Site(Categorical(3), skewed)}, channel(0.1, 3))
    found = told(subject_of(words, Renamed(words), 400))
    assert found["aggregate"] == pytest.approx(found["exact"], abs=4 * found["aggregate_se"])
    assert found["guide"] < 0


def nested(_: Program, __: Batch, z: Mapping[str, Tensor]) -> Tensor:
    """The law of the second latent given the first: nothing but the first."""
    return torch.cat([3 * z["z"], torch.full_like(z["z"], -1.0)], -1)


def test_latents_that_depend_on_each_other_have_no_aggregate_and_keep_their_bounds() -> None:
    sites = {"z": Site(Normal(1)), "w": Site(Normal(1), nested)}
    found = told(subject_of(Program(sites, coins), num=40))
    assert {"infonce", "lower", "upper", "guide"} <= set(found)
    assert not {"aggregate", "prompt"} & set(found)


def test_joint_values_of_several_latents_are_one() -> None:
    """A word that is the second latent, which is the first but for a share."""

    def child(_: Program, __: Batch, z: Mapping[str, Tensor]) -> Tensor:
        return math.log(8.0) * nn.functional.one_hot(z["a"], 3).float()

    program = Program({"a": Site(Categorical(3)), "b": Site(Categorical(3), child)}, channel(0.0, 3, "b"))
    subject = subject_of(program, num=200)
    found = told(subject)
    assert found["exact"] == pytest.approx(math.log(3), abs=1e-4)
    assert found["aggregate"] == pytest.approx(math.log(3), abs=4 * found["aggregate_se"] + 0.01)
    own = own_draws(subject)
    assert own is not None
    assert own.place is not None
    assert torch.equal(own.place, own.z["a"] + 3 * own.z["b"]), "the first latent changes fastest"


def test_the_models_own_draws_are_scored_as_its_program_scores_them() -> None:
    """The z drawn has the same log-densities as the joint value that it is, and y is a draw given that z."""
    own = own_draws(symmetric(0.2, num=400))
    assert own is not None
    assert own.place is not None
    for row in ("log_lik", "log_prior", "log_q"):
        of_value = getattr(own.values, row).gather(0, own.place[None])
        torch.testing.assert_close(getattr(own.truth, row), of_value, **EXACT)
    assert len(own) == 400
    right = own.log_lik.exp() > 0.5
    assert float(right.double().mean()) == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 400))
    assert [len(batch) for batch in own.batches] == [64] * 6 + [16]
    assert torch.bincount(own.place, minlength=4).min() > 60


class Noisy(Program):
    """Draws something beside its latents and y."""

    def forward(self, batch: Batch) -> Tensor:
        if batch.response is None:
            pyro.sample("more", dist.Normal(0.0, 1.0))
        return super().forward(batch)


class Labelled(Program):
    """Observes something beside y."""

    def forward(self, batch: Batch) -> Tensor:
        pyro.sample(
            "seen", dist.Normal(torch.zeros(len(batch)), 1.0).to_event(1), obs=torch.zeros(len(batch))
        )
        return super().forward(batch)


@pytest.mark.parametrize("program", [Noisy, Labelled])
def test_nothing_is_said_of_a_program_that_does_not_say_how_y_is_drawn(program: type[Program]) -> None:
    right = symmetric(0.2, num=10)
    wrong = program({"z": Site(Categorical(4))}, channel(0.2, 4))
    subject = Subject(wrong, Bayes(wrong), right.data, right.seen, 4)
    assert own_draws(subject) is None
    assert information(subject).figures == {}


def test_figures_are_the_same_at_each_call_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    for subject in (symmetric(0.2, num=40), subject_of(Program({"z": Site(Normal(1))}, coins), num=20)):
        torch.set_rng_state(before)
        first = information(subject).figures
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(7)
        again = Subject(subject.model, subject.guide, subject.data, subject.seen, subject.max_new_tokens, 0)
        assert information(again).figures == first
        assert all(math.isfinite(value) for value in first.values())
        assert own_draws(again) is own_draws(again)


def test_a_single_datum_has_no_aggregate() -> None:
    found = told(symmetric(0.2, num=1))
    assert "infonce" in found
    assert "aggregate" not in found
