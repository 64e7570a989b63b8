"""Terms on the tokens of a response against loops over data, strategies and tokens; one decoder pass for all."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyro
import pytest
import torch
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact, Held, Pathwise
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, MarginalLikelihood
from stratagem.inference.terms import (
    BaseFidelity,
    ExcessReconstruction,
    LatentJSD,
    NormalisedReconstruction,
    SequenceDivergence,
    base_fidelity,
    latent_jsd,
    next_tokens,
    sequence_divergence,
)
from stratagem.inference.terms.base_law import BaseLaw
from stratagem.inference.terms.next_tokens import jensen_shannon
from stratagem.inference.terms.response import response_of
from stratagem.inference.terms.sequence_divergence import prefix_score
from stratagem.models import Backbone, Batch, Example, LanguageModel, LatentLM, collate
from torch import Tensor, nn

from .inference_fixtures import EXACT, Forced, Toy, close, tuples_of

one = pytest.mark.parametrize("toy", ["one"], indirect=True)

DATA_TERMS = {
    "normalised": NormalisedReconstruction(floor=1e-3),
    "excess": ExcessReconstruction(),
    "jsd": LatentJSD(),
    "jsd-uniform": LatentJSD(uniform=True),
    "fidelity": BaseFidelity(),
}
"""Those that draw nothing."""

data_term = pytest.mark.parametrize("name", DATA_TERMS)


def enumerated(toy: Toy, batch: Batch | None = None) -> LogQuantities:
    return Enumerate()(toy.model, toy.guide, batch or toy.batch)


def joint_values(model: LatentLM) -> list[dict[str, Tensor]]:
    """The first latent changing fastest."""
    values: list[dict[str, Tensor]] = [{}]
    for name, latent in reversed(model.latents.items()):
        values = [{name: torch.tensor([k]), **z} for z in values for k in range(latent.num_features)]
    return values


@dataclass
class Tokens:
    """One datum, without padding: next-token laws ``(P, T, V)``, the base's ``(T, V)``, and the tokens ``(T,)``."""

    log_laws: Tensor
    log_base: Tensor
    y: Tensor

    @property
    def log_p(self) -> Tensor:
        """``(P, T)``."""
        return torch.stack([law.gather(-1, self.y[:, None])[:, 0] for law in self.log_laws])

    @property
    def log_p0(self) -> Tensor:
        return self.log_base.gather(-1, self.y[:, None])[:, 0]


def tokens_of(toy: Toy, row: Batch) -> Tokens:
    laws = [
        toy.model.decoder(row, z).logits(row.response)[0].log_softmax(-1) for z in joint_values(toy.model)
    ]
    with torch.no_grad():
        base = toy.model.base(row).logits(row.response)[0].log_softmax(-1)
    return Tokens(torch.stack(laws), base, row.response[0])


def entropy(p: Tensor) -> Tensor:
    return -(p * p.log()).sum()


def by_hand(name: str, toy: Toy) -> Tensor:
    """A term's value, ``(B,)``, a datum, a strategy and a token at a time."""
    tables, out = toy.tables(), []
    for b, row in enumerate(toy.rows):
        t = tokens_of(toy, row)
        q, prior = tables.log_q[:, b].exp(), tables.log_prior[:, b].exp()
        loss = -t.log_p0
        weights = [step / (loss.sum() / len(loss)) for step in loss]
        total = torch.zeros((), dtype=torch.float64)
        if name == "normalised":
            total = sum(q[k] * t.log_p[k].sum() for k in range(len(q))) / -t.log_p0.sum()
        elif name == "excess":
            for k in range(len(q)):
                for s in range(len(loss)):
                    total = total + q[k] * weights[s] * (t.log_p[k, s] - t.log_p0[s])
        elif name == "fidelity":
            for s in range(len(loss)):
                joint = [prior[k] * t.log_p[k, :s].sum().exp() for k in range(len(prior))]
                mixed = sum(j * law[s].exp() for j, law in zip(joint, t.log_laws, strict=True)) / sum(joint)
                total = total + (t.log_base[s].exp() * (t.log_base[s] - mixed.log())).sum()
        else:
            w = torch.full_like(prior, 1 / len(prior)) if "uniform" in name else prior.detach()
            for s in range(len(loss)):
                laws = [law[s].exp() for law in t.log_laws]
                mixed = sum(w[k] * laws[k] for k in range(len(w)))
                jsd = entropy(mixed) - sum(w[k] * entropy(laws[k]) for k in range(len(w)))
                total = total + weights[s] * jsd
        out.append(total)
    return torch.stack(out)


def is_the_sum_written_out(name: str, toy: Toy) -> None:
    value, expected = DATA_TERMS[name].value(enumerated(toy)), by_hand(name, toy)
    assert value.shape == (len(toy.batch),)
    torch.testing.assert_close(value, expected, **EXACT)


@data_term
def test_values_and_gradients_are_those_of_the_sums_written_out(toy: Toy, name: str) -> None:
    is_the_sum_written_out(name, toy)
    expected = toy.gradients(by_hand(name, toy).sum())
    close(toy.gradients(DATA_TERMS[name].value(enumerated(toy)).sum()), expected)
    assert all(expected[f"model.conditionings.{z}.weight"].abs().max() > 1e-6 for z in toy.model.latents)
    moves_guide = any(g.abs().max() > 0 for n, g in expected.items() if n.startswith("guide."))
    moves_router = any(g.abs().max() > 0 for n, g in expected.items() if ".routers." in n)
    assert moves_guide == (name in ("normalised", "excess"))
    assert moves_router == (name == "fidelity")


def unnormalised(base: BaseLaw) -> Tensor:
    return -base.log_p


MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "excess": lambda m: m.setattr(BaseLaw, "token_weights", property(unnormalised)),
    "jsd": lambda m: m.setattr(latent_jsd, "jensen_shannon", lambda p, w: jensen_shannon(p, w.flip(-1))),
    "jsd-uniform": lambda m: m.setattr(DATA_TERMS["jsd-uniform"], "uniform", False),
    "fidelity": lambda m: m.setattr(base_fidelity, "given_prefix", lambda w, p: w[..., None].expand(p.shape)),
    "normalised": lambda m: m.setattr(LogQuantities, "expect_q", lambda _, values: values.mean(0)),
}


@data_term
@one
def test_a_wrong_term_is_told_apart(toy: Toy, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    with pytest.raises(AssertionError):
        is_the_sum_written_out(name, toy)


@data_term
def test_padding_and_neighbours_have_no_effect(
    toy: Toy, name: str, make_batch: Callable[..., Batch], unpad: Callable[[Batch], list[Batch]]
) -> None:
    batch = make_batch(toy.model.backbone, (1, 2, 3, 4, 5), (8, 1, 6, 3, 5), cut=(2,), seed=3)
    term = DATA_TERMS[name]
    whole = term.value(enumerated(toy, batch))
    alone = torch.cat([term.value(enumerated(toy, row)) for row in unpad(batch)])
    torch.testing.assert_close(whole, alone, **EXACT)
    close(toy.gradients(whole.sum()), toy.gradients(alone.sum()))


@one
def test_a_response_that_is_certain_under_the_base_weighs_one_at_each_token(toy: Toy) -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    log_p = torch.tensor([[0.0, 0.0, 0.0], [-3.0, 0.0, -1.0]])
    weights = BaseLaw(toy.model.base(toy.batch), log_p, log_p[..., None], mask).token_weights
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.0, 0.0], [2.25, 0.0, 0.75]]))


@one
def test_the_floor_bounds_what_a_sure_response_counts(toy: Toy) -> None:
    log = enumerated(toy)
    base = toy.model.base(toy.batch).log_prob(toy.batch.response)
    floor = float(-base.median())
    assert (-base < floor).any()
    expected = log.expect_q(log.log_lik) / torch.stack([x.clamp(min=floor) for x in -base])
    torch.testing.assert_close(NormalisedReconstruction(floor=floor).value(log), expected, **EXACT)


@pytest.mark.parametrize("name", ["normalised", "excess"])
def test_the_mean_over_all_draws_is_the_enumerated_value(toy: Toy, name: str) -> None:
    row, term = toy.rows[1], DATA_TERMS[name]
    laws, mean = toy.guide.posterior(row), torch.zeros(1, dtype=torch.float64)
    for z in tuples_of({n: latent.num_features for n, latent in toy.model.latents.items()}, 1):
        with Forced(z):
            value = term.value(Sample(1)(toy.model, toy.guide, row))
        mean = mean + value * sum(laws[n].log_prob(drawn) for n, drawn in z.items()).exp()
    torch.testing.assert_close(mean, term.value(enumerated(toy, row)), **EXACT)


def all_responses(backbone: Backbone, length: int) -> list[tuple[int, ...]]:
    """Every sequence that ends, or has full length."""
    whole: list[tuple[int, ...]] = [()]
    for _ in range(length):
        whole = [
            (*y, token)
            for y in whole
            for token in (range(backbone.vocab_size) if not y or y[-1] not in backbone.eos_ids else [None])
        ]
    return [tuple(token for token in y if token is not None) for y in whole]


def under_all_responses(toy: Toy, length: int) -> Batch:
    """The first prompt with every response."""
    prompt = tuple(toy.rows[0].prompt[0].tolist())
    rows = [Example(prompt, y) for y in all_responses(toy.model.backbone, length)]
    return collate(rows, toy.model.backbone.pad_id)


def fidelity_is_the_divergence(toy: Toy) -> None:
    batch = under_all_responses(toy, 2)
    with torch.no_grad():
        log = enumerated(toy, batch)
        value = BaseFidelity().value(log)
        log_p0 = toy.model.base(batch).log_prob(batch.response)
    p0, gap = log_p0.exp(), log_p0 - log.log_marginal
    torch.testing.assert_close(p0.sum(), torch.ones_like(p0[0]), **EXACT)
    expected = (p0 * gap).sum()
    assert expected > 0.01
    torch.testing.assert_close((p0 * value).sum(), expected, **EXACT)
    spread = [(p0 * (x - expected) ** 2).sum() for x in (value, gap)]
    assert spread[0] < 0.5 * spread[1]


def test_the_other_way_round_fidelity_is_the_divergence_of_the_marginal_in_the_mean(toy: Toy) -> None:
    batch = under_all_responses(toy, 2)
    with torch.no_grad():
        log = enumerated(toy, batch)
        both, one = (BaseFidelity(reverse=share).value(log) for share in (0.5, 0.0))
        gap = log.log_marginal - toy.model.base(batch).log_prob(batch.response)
    p = log.log_marginal.exp()
    torch.testing.assert_close(p.sum(), torch.ones_like(p[0]), **EXACT)
    expected = (p * gap).sum()
    assert expected > 0.01
    torch.testing.assert_close((p * (both - one)).sum(), 0.5 * expected, **EXACT)
    with pytest.raises(ValueError, match="reverse must be finite and not negative"):
        BaseFidelity(reverse=-1.0)


def test_fidelity_is_the_divergence_from_the_base_in_the_mean_and_less_noisy(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fidelity_is_the_divergence(toy)
    MUTATIONS["fidelity"](monkeypatch)
    with pytest.raises(AssertionError):
        fidelity_is_the_divergence(toy)


def test_strategies_that_are_the_base_have_no_divergence(toy: Toy) -> None:
    toy.model.set_strength(0)
    log = enumerated(toy)
    for term in (LatentJSD(), SequenceDivergence(num_tokens=3), BaseFidelity(), ExcessReconstruction()):
        value = term.value(log)
        torch.testing.assert_close(value, torch.zeros_like(value), **EXACT)


def test_disjoint_strategies_diverge_by_the_entropy_of_their_weights(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(joint_values(toy.model))
    log = enumerated(toy)
    own = 2000.0 * torch.eye(toy.model.backbone.vocab_size, dtype=torch.float64)[:size]
    plain = LanguageModel.logits_of
    monkeypatch.setattr(
        LanguageModel,
        "logits_of",
        lambda law, h: own.expand(*h.shape[:-1], -1) if h.shape[1:2] == (size,) else plain(law, h),
    )
    lengths = toy.batch.response_mask.sum(-1)
    for uniform in (False, True):
        w = torch.full_like(log.log_prior, 1 / size) if uniform else log.log_prior.exp()
        expected = lengths * torch.stack([entropy(w[:, b]) for b in range(len(lengths))])
        torch.testing.assert_close(LatentJSD(uniform=uniform).value(log), expected, **EXACT)


class Given(SequenceDivergence):
    """With rollouts ``(R, B, n)`` that are given."""

    drawn: Tensor

    def rollouts(self, law: LanguageModel, log_weights: Tensor) -> Tensor:  # noqa: ARG002
        return self.drawn


@dataclass
class Continuations:
    """All continuations of n tokens of the first prompt, ``(N, n)``, and their law under each strategy."""

    y: Tensor
    log_p: Tensor
    weights: Tensor

    @property
    def m(self) -> Tensor:
        return (self.weights[:, None] * self.log_p.exp()).sum(0)

    @property
    def information(self) -> Tensor:
        p = self.log_p.exp()
        terms = [w * (row * (row.log() - self.m.log())).sum() for w, row in zip(self.weights, p, strict=True)]
        return torch.stack(terms).sum()


def continuations(toy: Toy, n: int, uniform: bool) -> Continuations:
    batch = under_all_responses(toy, n)
    log_p = torch.stack(
        [toy.model.decoder(batch, z).log_prob(batch.response) for z in joint_values(toy.model)]
    )
    prior = toy.tables().log_prior[:, 0].exp().detach()
    return Continuations(batch.response, log_p, torch.full_like(prior, 1 / len(prior)) if uniform else prior)


def of_each_rollout(toy: Toy, every: Continuations, term: Given) -> Tensor:
    """The term's value ``(N,)`` with each continuation as the rollout."""
    term.drawn = every.y[None]
    return term.value(enumerated(toy, under_all_responses(toy, every.y.shape[-1])))


def is_unbiased(toy: Toy, uniform: bool = False) -> None:
    every = continuations(toy, 2, uniform)
    m = every.m.detach()
    torch.testing.assert_close(m.sum(), torch.ones_like(m[0]), **EXACT)
    mean = m @ of_each_rollout(toy, every, Given(num_tokens=2, uniform=uniform))
    torch.testing.assert_close(mean, every.information, **EXACT)
    truth = toy.gradients(every.information)
    assert max(g.abs().max() for g in truth.values()) > 1e-3
    close(toy.gradients(mean), truth)


@pytest.mark.parametrize("uniform", [False, True])
def test_rollouts_give_the_information_and_its_gradient_without_bias(toy: Toy, uniform: bool) -> None:
    is_unbiased(toy, uniform)


WRONG_ROLLOUTS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "no score": ("prefix_score", lambda _, log_m: 0 * log_m.sum(-1)),
    "wrong sign": ("prefix_score", lambda tokens, log_m: -prefix_score(tokens, log_m)),
    "past for future": ("prefix_score", lambda tokens, log_m: (tokens.cumsum(-1).detach() * log_m).sum(-1)),
    "weights of the prior": ("given_prefix", lambda w, log_p: w[..., None].expand(log_p.shape)),
    "divergence held fixed": ("jensen_shannon", lambda log_p, w: jensen_shannon(log_p, w).detach()),
}


@one
@pytest.mark.parametrize("wrong", WRONG_ROLLOUTS)
def test_a_wrong_estimator_is_told_apart(toy: Toy, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_divergence, *WRONG_ROLLOUTS[wrong])
    with pytest.raises(AssertionError):
        is_unbiased(toy)


@one
def test_the_token_level_figure_takes_away_most_of_the_variance(toy: Toy) -> None:
    every = continuations(toy, 2, False)
    m, p = every.m.detach(), (every.weights[:, None] * every.log_p.exp()).detach().flatten()
    values = of_each_rollout(toy, every, Given(num_tokens=2))
    log_ratio = (every.log_p - every.m.log()).detach().flatten()
    plain = (log_ratio - every.information.detach()) * every.log_p.flatten()
    weight = toy.model.conditionings["z"].weight

    def gradients(draws: Tensor) -> Tensor:
        return torch.stack([torch.autograd.grad(x, weight, retain_graph=True)[0].flatten() for x in draws])

    def spread(weights: Tensor, draws: Tensor) -> Tensor:
        return weights @ (draws - weights @ draws).square().reshape(len(draws), -1).sum(-1)

    ours, theirs = gradients(values), gradients(plain)
    torch.testing.assert_close(m @ ours, p @ theirs, rtol=0, atol=1e-8)
    assert spread(m, ours) < 0.1 * spread(p, theirs)
    assert spread(m, values) < 0.1 * spread(p, log_ratio)


@one
def test_a_continuation_of_one_token_is_exact_and_several_rollouts_are_averaged(toy: Toy) -> None:
    log = enumerated(toy)
    first = replace(
        toy.batch, response=toy.batch.response[:, :1], response_mask=toy.batch.response_mask[:, :1]
    )
    by_token = LatentJSD().value(enumerated(toy, first))
    torch.testing.assert_close(SequenceDivergence(num_tokens=1).value(log), by_token, **EXACT)
    term = Given(num_tokens=3)
    rollouts = torch.randint(toy.model.backbone.vocab_size, (4, len(toy.batch), 3))
    values = []
    for term.drawn in (rollouts, *rollouts[:, None]):
        values.append(term.value(enumerated(toy)))
    mean = torch.stack(values[1:]).mean(0)
    torch.testing.assert_close(values[0], mean, **EXACT)
    close(toy.gradients(values[0].sum()), toy.gradients(mean.sum()))


def test_rollouts_are_draws_of_the_mixture(toy: Toy) -> None:
    every, draws = continuations(toy, 2, False), 4000
    term = SequenceDivergence(num_tokens=2, num_rollouts=draws)
    log = enumerated(toy, toy.rows[0])
    seen = response_of(log)
    law = LanguageModel(seen.law.backbone, seen.law.prompt, seen.law.memory, 2).expand(seen.shape)
    drawn = term.rollouts(law, log.log_prior.detach())[:, 0]
    share = (drawn[:, None] == every.y).all(-1).double().mean(0)
    assert (drawn[:, None] == every.y).all(-1).any(-1).all()
    error = (every.m * (1 - every.m) / draws).sqrt()
    # 5 standard errors on 111 continuations: a false alarm once in 15000 seeds, of which this is one.
    assert ((share - every.m).abs() < 5 * error + 1e-9).all()


@contextmanager
def passes(backbone: Backbone) -> Iterator[list[int]]:
    """The rows of each forward pass of the LM."""
    found: list[int] = []
    networks = {id(n.base_model): n.base_model for n in backbone.networks.values()}.values()
    hooks = [
        network.register_forward_pre_hook(
            lambda _, __, given: found.append(len(given["inputs_embeds"])), with_kwargs=True
        )
        for network in networks
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def test_terms_cost_one_pass_of_the_base_and_none_of_the_decoder(toy: Toy) -> None:
    def cost(*names: str, grad: bool = True) -> int:
        terms = {name: DATA_TERMS[name] for name in names}
        with torch.set_grad_enabled(grad), passes(toy.model.backbone) as found:
            Inference(MarginalLikelihood(), Enumerate(), Exact(), terms)(toy.model, toy.guide, toy.batch)
        return len(found)

    plain = cost()
    prompt_and_response = 2
    assert cost(*DATA_TERMS) == cost("normalised") == plain + prompt_and_response
    assert cost(*DATA_TERMS, grad=False) == cost(grad=False) + prompt_and_response


def test_rollouts_cost_their_drawing_and_one_pass(toy: Toy) -> None:
    log = enumerated(toy)
    size = len(log.log_prior) * len(toy.batch)
    with passes(toy.model.backbone) as found:
        SequenceDivergence(num_tokens=1, num_rollouts=2).value(log)
    assert found == [2 * size, 2 * size]


def test_chunks_of_tokens_change_neither_values_nor_gradients(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = [LatentJSD(), BaseFidelity(), SequenceDivergence(num_tokens=3)]

    def found() -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(0)
        log = enumerated(toy)
        value = torch.stack([term.value(log) for term in terms])
        return value.detach(), toy.gradients(value.square().sum())

    whole, gradients = found()
    rows, plain = [], LanguageModel.logits_of

    def counted(law: LanguageModel, hidden: Tensor) -> Tensor:
        if hidden.dim() == 3:  # (n, P, hidden_size)
            rows.append(len(hidden))
        return plain(law, hidden)

    monkeypatch.setattr(LanguageModel, "logits_of", counted)
    room = 2 * (len(joint_values(toy.model)) + 1) * toy.model.backbone.vocab_size
    monkeypatch.setattr(next_tokens, "_LOGITS_BUDGET", room)
    value, found_gradients = found()
    assert max(rows) == 2
    torch.testing.assert_close(value, whole, **EXACT)
    close(found_gradients, gradients)


@one
@pytest.mark.parametrize("graded", [True, False])
def test_whatever_is_asked_of_one_value_costs_one_pass(toy: Toy, graded: bool) -> None:
    law, y = toy.model.decoder(toy.batch, {"z": torch.arange(3)[:, None]}), toy.batch.response
    with torch.set_grad_enabled(graded), passes(toy.model.backbone) as found:
        log_p, tokens, logits, hidden = law.log_prob(y), law.token_log_probs(y), law.logits(y), law.hidden(y)
        with torch.no_grad():
            assert not law.log_prob(y).requires_grad
    assert found == [9]
    assert log_p.requires_grad == graded
    torch.testing.assert_close(tokens.sum(-1), log_p, **EXACT)
    assert torch.equal(law.logits_of(hidden), logits)
    of_token = logits.log_softmax(-1).gather(-1, y.expand(3, -1, -1)[..., None])[..., 0]
    torch.testing.assert_close(of_token * toy.batch.response_mask, tokens, **EXACT)


@one
def test_a_pass_is_kept_for_its_value_its_gradients_and_its_law_alone(toy: Toy) -> None:
    z = {"z": torch.arange(3)[:, None]}
    law, y = toy.model.decoder(toy.batch, z), toy.batch.response.clone()
    weight = toy.model.conditionings["z"].weight
    with passes(toy.model.backbone) as found:
        with torch.no_grad():
            plain = law.log_prob(y)
        graded = law.log_prob(y)
        assert len(found) == 2
        law.log_prob(y.clone())
        law.log_prob(y)
        assert len(found) == 4
        y[0, 0] = (y[0, 0] + 1) % toy.model.backbone.vocab_size
        changed = law.log_prob(y)
        assert len(found) == 5
        law.expand((2, 3, 3)).log_prob(y)
        assert len(found) == 6
        (first,) = torch.autograd.grad(changed.sum(), weight, retain_graph=True)
        (again,) = torch.autograd.grad(law.log_prob(y).sum(), weight)
        assert len(found) == 7
    assert torch.equal(plain, graded.detach())
    assert (changed != graded)[:, 0].all()
    assert torch.equal(first, again)
    expected = toy.model.decoder(toy.batch, z).log_prob(y)
    assert torch.equal(changed, expected)
    assert law._last is None
    law.log_prob(y)
    assert law._last is not None
    kept = weakref.ref(law._last.hidden)
    assert kept() is not None
    del law, found
    assert kept() is None


@one
def test_values_in_inference_mode_are_scored(toy: Toy) -> None:
    expected = toy.model.base(toy.batch).log_prob(toy.batch.response)
    with torch.inference_mode():
        y = toy.batch.response.clone()
        law = toy.model.base(toy.batch)
        torch.testing.assert_close(law.log_prob(y), expected, **EXACT)
        y[:, 0] = 5
        assert not torch.equal(law.log_prob(y), expected)


class Twice(nn.Module):
    """A program that observes the response at two sites, or at none that is a language model."""

    def __init__(self, model: LatentLM, sites: int) -> None:
        super().__init__()
        self.model, self.sites, self.base = model, sites, model.base

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            z = pyro.sample("z", self.model.router(batch)["z"])
            for i in range(self.sites):
                pyro.sample(f"y{i}", self.model.decoder(batch, {"z": z}), obs=batch.response)


@one
@pytest.mark.parametrize("sites", [0, 2])
def test_a_model_without_one_response_is_refused(toy: Toy, sites: int) -> None:
    log = Enumerate()(Twice(toy.model, sites), toy.guide, toy.batch)
    with pytest.raises(
        ValueError, match=r"one observed LanguageModel site, got \[" + ("'y0', 'y1'" if sites else "")
    ):
        LatentJSD().value(log)


@one
def test_a_model_without_a_base_is_refused_where_one_is_needed(toy: Toy) -> None:
    bare = Enumerate()(lambda batch: toy.model(batch), toy.guide, toy.batch)
    for term in (LatentJSD(), ExcessReconstruction(), NormalisedReconstruction(), BaseFidelity()):
        with pytest.raises(ValueError, match=r"needs a model with a method base\(batch\).* got function"):
            term.value(bare)
    assert (SequenceDivergence().value(bare) > 0).all()


@one
def test_particles_one_by_one_are_refused_by_the_terms_on_tokens(toy: Toy) -> None:
    one_by_one = Sample(3, one_by_one=True)
    with pytest.raises(ValueError, match=r"ExcessReconstruction: needs .* in one run.* one_by_one=false"):
        Inference(ELBO(), one_by_one, Held(), {"e": ExcessReconstruction()})
    with Forced({"z": torch.arange(3)}):
        log = one_by_one(toy.model, toy.guide, toy.batch)
        together = Sample(3)(toy.model, toy.guide, toy.batch)
    with pytest.raises(ValueError, match="one run; set one_by_one=false"):
        ExcessReconstruction().value(log)
    term = NormalisedReconstruction()
    torch.testing.assert_close(term.value(log), term.value(together), **EXACT)


class Copies(Held):
    copies = 2


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: NormalisedReconstruction(floor=0.0), "NormalisedReconstruction: floor must be above 0"),
        (
            lambda: SequenceDivergence(num_tokens=0),
            "num_tokens and num_rollouts must be at least 1, got 0 and 1",
        ),
        (lambda: SequenceDivergence(num_rollouts=0), "must be at least 1, got 4 and 0"),
        (
            lambda: Inference(ELBO(), Sample(), Pathwise(), {"f": BaseFidelity()}),
            "BaseFidelity .* needs Enumerate",
        ),
        (lambda: Inference(ELBO(), Sample(), Pathwise(), {"j": LatentJSD()}), "LatentJSD .* needs Enumerate"),
        (
            lambda: Inference(ELBO(), Sample(), Pathwise(), {"s": SequenceDivergence()}),
            "SequenceDivergence .* needs Enumerate",
        ),
        (
            lambda: Inference(ELBO(), Sample(), Copies(), {"n": NormalisedReconstruction()}),
            "NormalisedReconstruction: needs plain draws from q, and Copies draws each particle 2 times",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@one
def test_continuations_longer_than_the_context_are_refused(toy: Toy) -> None:
    room = toy.model.backbone.context - toy.batch.prompt.shape[1]
    log = enumerated(toy)
    assert SequenceDivergence(num_tokens=room).value(log).isfinite().all()
    with pytest.raises(ValueError, match=f"num_tokens={room + 1}, .* room for {room}"):
        SequenceDivergence(num_tokens=room + 1).value(log)
