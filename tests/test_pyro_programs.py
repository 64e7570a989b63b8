"""Model and guide as Pyro programs: Pyro's handlers and its exact inference against sums written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, TraceEnum_ELBO, config_enumerate
from stratagem.guides import AmortizedGuide
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    LanguageModel,
    Latent,
    LatentLM,
    Memory,
    Normal,
    PooledRouter,
    encode_prompt,
)
from torch import Tensor

B, K = 3, 4
LATENTS = {
    "one": {"z": Categorical(K)},
    "two": {"a": Categorical(3), "b": Categorical(2)},
    "mixed": {"c": Categorical(3), "v": Normal(2)},
}
enumerable = pytest.mark.parametrize("program", ["one", "two"], indirect=True)
single = pytest.mark.parametrize("program", ["one"], indirect=True)


@dataclass
class Program:
    """A model and a guide whose weights are far from their start, and data for them, in float64."""

    model: LatentLM
    guide: AmortizedGuide
    batch: Batch

    def law(self, z: Mapping[str, Tensor]) -> LanguageModel:
        """``p(y|x,z)`` of one joint value, from the parts."""
        model, batch = self.model, self.batch
        prompt = encode_prompt(model.backbone, "decoder", batch.prompt, batch.prompt_mask)
        memory = Memory.cat([model.conditionings[name](value) for name, value in z.items()])
        return LanguageModel(model.backbone, prompt, memory, batch.max_length, batch.response_mask)

    def log_joint(self) -> Tensor:
        """``log p(z, y | x)``, ``(K_1, ..., K_n, B)``, one joint value after the other."""
        names = list(self.model.latents)
        sizes = [self.model.latents[name].num_features for name in names]
        log_p = {name: law.logits.log_softmax(-1) for name, law in self.model.router(self.batch).items()}
        rows = []
        for values in itertools.product(*map(range, sizes)):
            z = dict(zip(names, values, strict=True))
            log_lik = self.law({name: torch.tensor(k) for name, k in z.items()}).log_prob(self.batch.response)
            rows.append(log_lik + sum(log_p[name][:, k] for name, k in z.items()))
        return torch.stack(rows).reshape(*sizes, B)

    def log_q(self) -> Tensor:
        """``log q(z|x,y)`` as :meth:`log_joint`."""
        laws = [law.logits.log_softmax(-1).T for law in self.guide.posterior(self.batch).values()]  # (K_i, B)
        total = laws[0]
        for law in laws[1:]:
            total = total[..., None, :] + law
        return total


@pytest.fixture
def program(
    request: pytest.FixtureRequest,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> Program:
    backbone = make_backbone("gpt2", dtype=torch.float64, vocab=7)
    latents: dict[str, Latent] = LATENTS[request.param]
    model = make_model(backbone, "prefix", latents, PooledRouter)
    guide = AmortizedGuide(model, width=4).double()
    randomise(model)
    randomise(guide)
    return Program(model, guide, make_batch(backbone))


@enumerable
@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_elbo_of_an_enumerated_guide_is_the_sum_over_z(program: Program, how: str) -> None:
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    guide = config_enumerate(program.guide.guide, how)
    log_q = program.log_q()
    expected = (log_q.exp() * (program.log_joint() - log_q)).sum()
    assert -elbo.loss(program.model, guide, program.batch) == pytest.approx(expected.item(), rel=1e-10)


@enumerable
def test_enumerating_the_model_gives_the_marginal_and_the_posterior(program: Program) -> None:
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    model = config_enumerate(program.model.model, "parallel")
    log_joint = program.log_joint()
    log_p = log_joint.flatten(0, -2).logsumexp(0)  # (B,)
    assert -elbo.loss(model, lambda _: None, program.batch) == pytest.approx(log_p.sum().item(), rel=1e-10)
    marginals = elbo.compute_marginals(model, lambda _: None, program.batch)
    assert set(marginals) == set(program.model.latents)
    for place, name in enumerate(program.model.latents):
        others = [i for i in range(log_joint.dim() - 1) if i != place]
        posterior = (log_joint - log_p).exp().sum(others) if others else (log_joint - log_p).exp()
        torch.testing.assert_close(marginals[name].probs, posterior.T, atol=1e-10, rtol=0)


@enumerable
def test_gradients_of_the_marginal_are_those_of_the_sum(program: Program) -> None:
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    model = config_enumerate(program.model.model, "parallel")
    weights = [w for w in program.model.parameters() if w.requires_grad]
    loss = elbo.differentiable_loss(model, lambda _: None, program.batch)
    expected = -program.log_joint().flatten(0, -2).logsumexp(0).sum()
    ours, theirs = (torch.autograd.grad(x, weights, materialize_grads=True) for x in (loss, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)
    assert max(float(gradient.abs().max()) for gradient in ours) > 0.01


@pytest.mark.parametrize("program", ["one", "two", "mixed"], indirect=True)
@pytest.mark.parametrize("particles", [None, 5])
def test_the_trace_scores_prior_and_response(program: Program, particles: int | None) -> None:
    def plates() -> AbstractContextManager:
        return nullcontext() if particles is None else pyro.plate("particles", particles, dim=-2)

    with plates():
        drawn = poutine.trace(program.guide).get_trace(program.batch)
    with plates():
        traced = poutine.trace(poutine.replay(program.model, drawn)).get_trace(program.batch)
    traced.compute_log_prob()
    shape = (B,) if particles is None else (particles, B)
    z = {name: drawn.nodes[name]["value"] for name in program.model.latents}
    log_lik = torch.empty(shape, dtype=torch.float64)
    for place in itertools.product(*map(range, shape)):
        log_lik[place] = program.law({n: v[place] for n, v in z.items()}).log_prob(program.batch.response)[
            place[-1]
        ]
    torch.testing.assert_close(traced.nodes["y"]["log_prob"], log_lik, atol=1e-10, rtol=0)
    for name, law in program.model.router(program.batch).items():
        assert traced.nodes[name]["log_prob"].shape == shape
        torch.testing.assert_close(traced.nodes[name]["log_prob"], law.log_prob(z[name]))


@pytest.mark.parametrize("program", ["one", "mixed"], indirect=True)
@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_strategies_and_responses(program: Program, parallel: bool) -> None:
    predictive = Predictive(program.model, num_samples=6, parallel=parallel)
    drawn = predictive(program.batch.without_response(5))
    assert set(drawn) == {*program.model.latents, "y"}
    assert drawn["y"].shape == (6, B, 5)
    assert drawn["y"].dtype == torch.long
    for name, latent in program.model.latents.items():
        event = (latent.num_features,) if isinstance(latent, Normal) else ()
        assert drawn[name].shape == (6, B, *event)


@single
def test_posterior_predictive_keeps_the_strategies_of_the_guide(program: Program) -> None:
    drawn = Predictive(program.model, guide=program.guide, num_samples=400)(program.batch)
    law = program.guide.posterior(program.batch)["z"]
    share = torch.nn.functional.one_hot(drawn["z"], K).double().mean(0)
    torch.testing.assert_close(share, law.probs, atol=5 * 0.5 / 400**0.5, rtol=0)


@single
def test_conditioning_on_z_scores_it_and_doing_z_does_not(program: Program) -> None:
    z, response = torch.tensor([3, 0, 2]), program.batch.response
    log_lik = program.law({"z": z}).log_prob(response).sum()
    given = poutine.trace(pyro.condition(program.model, data={"z": z})).get_trace(program.batch)
    log_prior = program.model.router(program.batch)["z"].log_prob(z).sum()
    torch.testing.assert_close(given.log_prob_sum(), log_lik + log_prior, atol=1e-10, rtol=0)
    forced = poutine.trace(pyro.do(program.model, data={"z": z})).get_trace(program.batch)
    torch.testing.assert_close(forced.nodes["y"]["fn"].log_prob(response).sum(), log_lik, atol=1e-10, rtol=0)


@single
def test_steering_is_the_language_model_with_that_memory(program: Program) -> None:
    steered, law = pyro.do(program.model, data={"z": torch.tensor(3)}), program.law({"z": torch.tensor(3)})
    trace = poutine.trace(steered).get_trace(program.batch)
    response = program.batch.response
    torch.testing.assert_close(trace.nodes["y"]["fn"].log_prob(response), law.log_prob(response))
    unseen = program.batch.without_response(5)
    pyro.set_rng_seed(1)
    shifted = [steered(unseen) for _ in range(3)]
    pyro.set_rng_seed(1)
    for drawn in shifted:
        program.model.router(unseen)["z"].sample()
        expected = program.model.decoder(unseen, {"z": torch.tensor(3)}).sample()
        assert torch.equal(drawn, expected)
