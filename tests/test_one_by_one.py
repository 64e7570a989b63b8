"""Particles run one by one: the values and gradients of all at once, on fewer rows."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import DoublyReparameterised, Gradient, Held, Pathwise, StickingTheLanding
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, IWAE, PIWAE, Objective, Renyi
from stratagem.inference.terms import Term
from stratagem.models import Backbone, Batch, Categorical, LatentLM, Lora, Normal, PooledRouter
from torch import Tensor, nn

from .gaussian_fixtures import Chain
from .inference_fixtures import EXACT, Toy

S = 4
PAIRS: dict[str, tuple[Objective, Gradient]] = {
    "pathwise": (IWAE(), Pathwise()),
    "pathwise of two bounds": (PIWAE(2), Pathwise()),
    "stl": (ELBO(), StickingTheLanding()),
    "dreg": (IWAE(), DoublyReparameterised()),
    "dreg chi-square": (Renyi(-1.0), DoublyReparameterised()),
}


@pytest.fixture
def make_toy(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> Callable[..., Toy]:
    """Two continuous latents, and a router, a decoder and a posterior with adapters of their own."""

    def make(**latents: Normal | Categorical) -> Toy:
        roles = {role: Lora(rank=2) for role in ("router", "decoder", "posterior")}
        backbone = make_backbone("gpt2", dtype=torch.float64, roles=roles)
        model = make_model(backbone, latents=latents or {"a": Normal(2), "b": Normal(1)}, router=PooledRouter)
        guide = AmortizedGuide(model, pooling="attention").double()
        randomise(nn.ModuleDict({"model": model, "guide": guide}))
        return Toy(model, guide, make_batch(backbone), [])

    return make


class Rate(Term):
    """A term on likelihood, prior, q and draws."""

    expectations = (Sample,)
    pointwise = False

    def value(self, log: LogQuantities) -> Tensor:
        moved = log.log_lik + 0.3 * log.log_prior - 0.7 * log.log_q
        return moved.mean(0) + sum(site.z.square().mean() for site in log.sites.values())


def outcome(toy: Toy, inference: Inference) -> tuple[Tensor, dict[str, Tensor]]:
    pyro.set_rng_seed(3)
    toy.model.zero_grad()
    toy.guide.zero_grad()
    loss = inference(toy.model, toy.guide, toy.batch)
    loss.surrogate.backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in toy.parameters.items()}
    return loss.bound, {name: gradient.clone() for name, gradient in gradients.items()}


def same(toy: Toy, objective: Objective, gradient: Gradient, terms: dict[str, Term]) -> dict[str, Tensor]:
    """The law: one by one, bound and gradients are those of all particles at once."""
    bound, expected = outcome(toy, Inference(objective, Sample(S), gradient, terms))
    one_bound, found = outcome(toy, Inference(objective, Sample(S, one_by_one=True), gradient, terms))
    torch.testing.assert_close(one_bound, bound, **EXACT)
    for name, slope in expected.items():
        torch.testing.assert_close(found[name], slope, **EXACT, msg=lambda m, name=name: f"{name}: {m}")
    return expected


@pytest.mark.parametrize("terms", [{}, {"rate": Rate(0.5)}], ids=["alone", "beside a term"])
@pytest.mark.parametrize("name", PAIRS)
def test_one_by_one_has_the_bound_and_the_gradients_of_all_at_once(
    make_toy: Callable[..., Toy], name: str, terms: dict[str, Term]
) -> None:
    gradients = same(make_toy(), *PAIRS[name], terms)
    for role in ("router", "decoder", "posterior"):
        assert any(g.abs().max() > 1e-3 for n, g in gradients.items() if f".lora_B.{role}." in n), role


def test_an_adapter_that_is_not_switched_on_the_way_back_is_caught(
    make_toy: Callable[..., Toy], monkeypatch: pytest.MonkeyPatch
) -> None:
    right, forward = Backbone.network, torch.Tensor.backward

    def without_switch(loss: Tensor) -> None:
        monkeypatch.setattr(Backbone, "network", lambda self, role: self.lm)  # noqa: ARG005
        forward(loss)
        monkeypatch.setattr(Backbone, "network", right)

    toy = make_toy()
    same(toy, *PAIRS["dreg"], {})
    monkeypatch.setattr(torch.Tensor, "backward", without_switch)
    with pytest.raises(AssertionError, match="lora"):
        same(toy, *PAIRS["dreg"], {})


def test_draws_that_carry_no_gradient_are_run_one_by_one_too(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy(z=Categorical(3))
    logs = []
    for one_by_one in (False, True):
        pyro.set_rng_seed(3)
        with torch.set_grad_enabled(one_by_one):
            logs.append(Sample(S, one_by_one)(toy.model, toy.guide, toy.batch))
    whole, single = logs
    assert single.log_lik.requires_grad
    for name in ("log_lik", "log_prior", "log_q"):
        torch.testing.assert_close(getattr(single, name).detach(), getattr(whole, name), **EXACT)
    assert torch.equal(whole.sites["z"].z, single.sites["z"].z)
    assert len(whole.sites["z"].z.unique()) > 1


def test_a_model_on_draws_held_fixed_is_fitted_one_by_one(make_toy: Callable[..., Toy]) -> None:
    gradients = same(make_toy(z=Categorical(3)), IWAE(), Held(), {})
    assert any(g.abs().max() > 1e-3 for n, g in gradients.items() if ".lora_B.decoder." in n)


def test_a_site_given_another_is_run_one_by_one() -> None:
    problem, y = Chain(), torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
    noise = {name: torch.randn(S, 3, dtype=torch.float64) for name in problem.sites}
    found = []
    for one_by_one in (False, True):
        log = problem.run(y, noise, one_by_one=one_by_one)
        for name, site in log.sites.items():
            assert site.log_prior.shape == site.log_q.shape == site.z.shape == (S, 3), name
        _, raised = DoublyReparameterised().surrogate(IWAE(), log)
        found.append((log, problem.gradients(raised.sum())))
    (whole, expected), (single, gradients) = found
    torch.testing.assert_close(single.log_w, whole.log_w, **EXACT)
    for name in whole.sites:
        torch.testing.assert_close(single.sites[name].log_prior, whole.sites[name].log_prior, **EXACT)
    for name, slope in expected.items():
        torch.testing.assert_close(gradients[name], slope, **EXACT)


def rows(toy: Toy, one_by_one: bool) -> list[int]:
    """Of each run of the LM, forward and on the way back."""
    seen: list[int] = []
    hook = toy.model.backbone.lm.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["inputs_embeds"])),  # noqa: ARG005
        with_kwargs=True,
    )
    with hook:
        outcome(toy, Inference(ELBO(), Sample(S, one_by_one), Pathwise()))
    return seen


def test_no_run_of_the_lm_has_more_rows_than_the_batch(make_toy: Callable[..., Toy]) -> None:
    toy = make_toy()
    assert max(rows(toy, one_by_one=False)) == S * len(toy.batch)
    assert set(rows(toy, one_by_one=True)) == {len(toy.batch)}


def test_no_particles_are_refused() -> None:
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        Sample(0)
