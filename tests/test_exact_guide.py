"""The exact guide against Bayes' rule written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from stratagem.guides import AmortizedGuide, ExactGuide
from stratagem.models import Backbone, Batch, Categorical, Latent, LatentLM, Normal, PooledRouter
from torch import Tensor

B, S = 3, 4000
LATENTS: dict[str, dict[str, Latent]] = {
    "one": {"z": Categorical(4)},
    "two": {"a": Categorical(3), "b": Categorical(2)},
    "three": {"a": Categorical(2), "b": Categorical(3), "c": Categorical(2)},
}


@pytest.fixture(params=LATENTS)
def model(
    request: pytest.FixtureRequest,
    make_backbone: Callable[..., Backbone],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> LatentLM:
    made = make_model(
        make_backbone("gpt2", dtype=torch.float64),
        "prefix",
        LATENTS[request.param],
        PooledRouter,
        init_scale=1.5,
    )
    randomise(made.routers)
    return made


@pytest.fixture
def batch(model: LatentLM, make_batch: Callable[..., Batch]) -> Batch:
    return make_batch(model.backbone, responses=(6, 4, 5))


def log_posterior(model: LatentLM, batch: Batch) -> Tensor:
    """``log p(z|x,y)``, ``(K_1, ..., K_n, B)``, by the LM under one joint value after the other."""
    sizes = [latent.num_features for latent in model.latents.values()]
    laws = model.router(batch)
    rows = []
    for values in itertools.product(*map(range, sizes)):
        z = {name: torch.tensor(k) for name, k in zip(model.latents, values, strict=True)}
        log_prior = sum(laws[name].log_prob(k) for name, k in z.items())
        rows.append(model.decoder(batch, z).log_prob(batch.response) + log_prior)
    log_joint = torch.stack(rows).detach()
    return (log_joint - log_joint.logsumexp(0)).reshape(*sizes, B)


def test_the_traced_law_is_the_posterior(model: LatentLM, batch: Batch) -> None:
    expected = log_posterior(model, batch)
    guide = ExactGuide(model)
    for values in itertools.product(*(range(k) for k in expected.shape[:-1])):
        data = {name: torch.full((B,), k) for name, k in zip(model.latents, values, strict=True)}
        traced = poutine.trace(pyro.condition(guide, data=data)).get_trace(batch)
        traced.compute_log_prob()
        log_q = sum(traced.nodes[name]["log_prob"] for name in model.latents)
        torch.testing.assert_close(log_q, expected[values], atol=1e-10, rtol=0)


@pytest.mark.parametrize("model", ["two", "three"], indirect=True)
def test_latents_depend_on_each_other_given_the_response(model: LatentLM, batch: Batch) -> None:
    posterior = log_posterior(model, batch).exp()
    first = posterior.sum(list(range(1, posterior.dim() - 1)), keepdim=True)
    assert (first * posterior.sum(0, keepdim=True) - posterior).abs().max() > 1e-5


def test_particles_are_draws_of_the_joint_posterior(model: LatentLM, batch: Batch) -> None:
    guide = ExactGuide(model)
    with pyro.plate("particles", S, dim=-2):
        traced = poutine.trace(guide).get_trace(batch)
    drawn = [traced.nodes[name]["value"] for name in model.latents]  # (S, B) each
    expected = log_posterior(model, batch).exp()
    for values in itertools.product(*(range(k) for k in expected.shape[:-1])):
        hit = torch.stack([z == k for z, k in zip(drawn, values, strict=True)]).all(0).double().mean(0)
        p = expected[values]
        assert ((hit - p).abs() < 5 * (p * (1 - p) / S).sqrt() + 1e-3).all()


@pytest.mark.parametrize("how", ["parallel", "sequential"])
def test_the_bound_is_tight(model: LatentLM, batch: Batch, how: str) -> None:
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    exact = elbo.loss(model, config_enumerate(ExactGuide(model).guide, how), batch)
    log_p = elbo.loss(config_enumerate(model.model, "parallel"), lambda _: None, batch)
    assert exact == pytest.approx(log_p, rel=1e-10)
    loose = elbo.loss(model, config_enumerate(AmortizedGuide(model).double().guide, how), batch)
    assert loose > log_p + 1e-3


def test_the_guide_has_no_weights_and_passes_no_gradient(model: LatentLM, batch: Batch) -> None:
    guide = ExactGuide(model)
    assert not list(guide.parameters())
    traced = poutine.trace(guide).get_trace(batch)
    for name in model.latents:
        assert not traced.nodes[name]["fn"].logits.requires_grad


@pytest.mark.parametrize("make", [ExactGuide, AmortizedGuide])
def test_a_posterior_needs_a_response(make: type, model: LatentLM, batch: Batch) -> None:
    with pytest.raises(ValueError, match="the batch has no response"):
        make(model)(batch.without_response())


def test_a_continuous_latent_is_refused(
    make_backbone: Callable[..., Backbone], make_model: Callable[..., LatentLM]
) -> None:
    model = make_model(make_backbone("gpt2"), "prefix", {"c": Categorical(2), "v": Normal(2)})
    with pytest.raises(
        ValueError, match="latent v is Normal, which cannot be enumerated; use guide=amortized"
    ):
        ExactGuide(model)
