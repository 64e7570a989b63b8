"""Expectations, objectives, gradients and terms against sums written out, on an LM small enough for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import stratagem.configs
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from stratagem.guides import AmortizedGuide, ExactGuide
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact, Pathwise
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities, xlogp
from stratagem.inference.objectives import ELBO, MarginalLikelihood, Objective
from stratagem.inference.terms import ForwardKL, MutualInformation, Term, VariationalInformation
from stratagem.inference.terms.distillation import PARTITION
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    KeyValuePrefix,
    LanguageModel,
    Latent,
    LatentLM,
    Memory,
    Normal,
    PooledRouter,
    encode_prompt,
)
from torch import Tensor, nn

from .inference_fixtures import EXACT, GaussianGuide, LinearGaussian, Toy, gaussian_batch, gaussian_elbo


def enumerated(objective: Objective | None = None, **terms: Term) -> Inference:
    return Inference(objective or ELBO(), Enumerate(), Exact(), terms)


def log_quantities(toy: Toy) -> LogQuantities:
    return Enumerate()(toy.model, toy.guide, toy.batch)


def test_enumeration_is_the_table_of_all_values(toy: Toy) -> None:
    log, tables = log_quantities(toy), toy.tables()
    torch.testing.assert_close(log.log_prior, tables.log_prior, **EXACT)
    torch.testing.assert_close(log.log_lik, tables.log_lik, **EXACT)
    torch.testing.assert_close(log.log_q, tables.log_q, **EXACT)
    torch.testing.assert_close(log.log_prior.logsumexp(0), torch.zeros(3, dtype=torch.float64), **EXACT)


def test_the_marginal_is_log_p(toy: Toy) -> None:
    loss = enumerated(MarginalLikelihood())(toy.model, toy.guide, toy.batch)
    torch.testing.assert_close(loss.bound, toy.tables().log_p, **EXACT)
    assert loss.usage is not None
    torch.testing.assert_close(loss.usage, toy.tables().log_posterior.exp(), **EXACT)


def test_the_elbo_is_log_p_less_the_divergence_to_the_posterior(toy: Toy) -> None:
    loss, tables = enumerated()(toy.model, toy.guide, toy.batch), toy.tables()
    gap = (tables.log_q.exp() * (tables.log_q - tables.log_posterior)).sum(0)
    assert (gap > 1e-3).all(), "the guide must be off for this to say anything"
    torch.testing.assert_close(loss.bound, tables.log_p - gap, **EXACT)


def test_the_exact_guide_makes_the_elbo_tight(toy: Toy) -> None:
    loss = enumerated()(toy.model, ExactGuide(toy.model), toy.batch)
    torch.testing.assert_close(loss.bound, toy.tables().log_p, **EXACT)


@pytest.mark.parametrize("objective", [ELBO(), MarginalLikelihood()], ids=["elbo", "marginal"])
def test_gradients_are_those_of_the_sums_written_out(toy: Toy, objective: Any) -> None:
    terms = {"information": MutualInformation(0.7), "guide": ForwardKL(0.3)}
    loss = enumerated(objective, **terms)(toy.model, toy.guide, toy.batch)
    t = toy.tables()
    q, log_post = t.log_q.exp(), t.log_posterior
    bound = (q * (t.log_prior + t.log_lik - t.log_q)).sum(0) if isinstance(objective, ELBO) else t.log_p
    fixed = t.log_prior.detach()
    held = (fixed + t.log_lik) - (fixed + t.log_lik).logsumexp(0)
    information = (held.exp() * (held - fixed)).sum(0)
    forward = (log_post.detach().exp() * (log_post.detach() - t.log_q)).sum(0)
    expected = toy.gradients(-(bound + 0.7 * information - 0.3 * forward).mean())
    found = toy.gradients(loss.surrogate)
    assert all(
        expected[f"model.conditionings.{name}.weight"].abs().max() > 1e-6 for name in toy.model.latents
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_the_forward_kl_fits_the_guide_and_leaves_the_model(toy: Toy) -> None:
    log, tables = log_quantities(toy), toy.tables()
    value = ForwardKL().value(log)
    p = tables.log_posterior.exp()
    torch.testing.assert_close(value, (p * (tables.log_posterior - tables.log_q)).sum(0), **EXACT)
    assert (value > 0).all()
    gradients = toy.gradients(value.sum())
    of_guide = {n for n, g in gradients.items() if g.abs().max() > 0}
    assert of_guide
    assert all(n.startswith("guide.") or ".posterior." in n for n in of_guide), of_guide


def test_the_information_is_that_of_the_table_and_leaves_the_router(toy: Toy) -> None:
    log, tables = log_quantities(toy), toy.tables()
    value = MutualInformation().value(log)
    by_hand = torch.zeros_like(value)
    for k in range(len(tables.log_prior)):
        for b in range(len(value)):
            posterior = (tables.log_prior + tables.log_lik)[:, b].softmax(0)[k]
            by_hand[b] += posterior * torch.log(posterior / tables.log_prior[k, b].exp())
    torch.testing.assert_close(value, by_hand, **EXACT)
    assert (value > 0).all()
    gradients = toy.gradients(value.sum())
    assert all(g.abs().max() == 0 for n, g in gradients.items() if ".routers." in n)
    assert all(g.abs().max() > 0 for n, g in gradients.items() if n.endswith(".weight") and "condit" in n)


def test_what_the_guide_can_read_is_the_information_less_the_forward_kl(toy: Toy) -> None:
    log = log_quantities(toy)
    readable = VariationalInformation().value(log)
    expected = MutualInformation().value(log) - ForwardKL().value(log)
    torch.testing.assert_close(readable, expected, **EXACT)


def test_the_objective_is_bound_and_weighted_terms(toy: Toy) -> None:
    terms = {"information": MutualInformation(0.7), "guide": ForwardKL(0.3)}
    loss = enumerated(**terms)(toy.model, toy.guide, toy.batch)
    expected = loss.bound.mean() + 0.7 * loss.terms["information"].mean() - 0.3 * loss.terms["guide"].mean()
    torch.testing.assert_close(loss.objective, expected, **EXACT)
    torch.testing.assert_close(-loss.surrogate.detach(), expected, **EXACT)


def test_a_datum_does_not_feel_its_neighbours(
    toy: Toy, make_batch: Callable[..., Batch], unpad: Callable[[Batch], list[Batch]]
) -> None:
    batch = make_batch(
        toy.model.backbone, (1, 2, 3, 4, 5, 6, 7, 8), (8, 1, 6, 3, 5, 4, 7, 2), cut=(2,), seed=3
    )
    inference = enumerated(MarginalLikelihood(), information=MutualInformation(), guide=ForwardKL())
    whole = inference(toy.model, toy.guide, batch)
    single = [inference(toy.model, toy.guide, row) for row in unpad(batch)]
    torch.testing.assert_close(whole.bound, torch.cat([s.bound for s in single]), **EXACT)
    mean = torch.stack([s.surrogate for s in single]).mean()
    torch.testing.assert_close(whole.surrogate, mean, **EXACT)
    expected, found = toy.gradients(mean), toy.gradients(whole.surrogate)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_draws_have_the_enumerated_mean(toy: Toy) -> None:
    particles = 4000
    with torch.no_grad():
        log = Sample(particles)(toy.model, toy.guide, toy.batch)
        exact = enumerated()(toy.model, toy.guide, toy.batch).bound
    assert log.log_w.shape == (particles, len(toy.batch))
    assert not log.enumerated
    error = log.log_w.std(0) / particles**0.5
    # 4 standard errors on three data: a false alarm once in 5000 seeds, of which this is one.
    assert ((ELBO().bound(log) - exact).abs() < 4 * error).all()
    assert (error < 0.1).all(), "too noisy to say anything"
    with pytest.raises(ValueError, match="whole support"):
        _ = log.log_marginal


def test_the_pathwise_gradient_is_unbiased() -> None:
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    parameters = [*model.parameters(), *guide.parameters()]
    bound = gaussian_elbo(model, guide, batch.features["y"])
    truth = torch.stack(torch.autograd.grad(-bound.mean(), parameters))
    inference = Inference(ELBO(), Sample(200), Pathwise())
    draws, values = [], []
    for _ in range(300):
        loss = inference(model, guide, batch)
        draws.append(torch.stack(torch.autograd.grad(loss.surrogate, parameters)))
        values.append(loss.bound)
    found, error = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 300**0.5
    assert (error < 0.05 * truth.abs()).all(), "too noisy to say anything"
    # 4 standard errors on six parameters: a false alarm once in 2600 seeds, of which this is one.
    assert ((found - truth).abs() < 4 * error).all()
    value = torch.stack(values)
    assert ((value.mean(0) - bound).abs() < 4 * value.std(0) / 300**0.5).all()


class Plan(nn.Module):
    """A user's own program: a plan z1, a step z2 given the plan, and a response that both condition."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.plan = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.step = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
        self.entry = nn.ModuleList(
            KeyValuePrefix(backbone, latent).double() for latent in (Categorical(3), Categorical(2))
        )

    def decoder(self, batch: Batch, z1: Tensor, z2: Tensor) -> LanguageModel:
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        memory = Memory.cat([self.entry[0](z1), self.entry[1](z2)])
        return LanguageModel(self.backbone, prompt, memory, batch.max_length, batch.response_mask)

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            z1 = pyro.sample("z1", dist.Categorical(logits=self.plan))
            z2 = pyro.sample("z2", dist.Categorical(logits=self.step[z1]))
            pyro.sample("y", self.decoder(batch, z1, z2), obs=batch.response)


class PlanGuide(nn.Module):
    """The step first, then the plan given the step."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.plan = nn.Parameter(torch.randn(2, 3, dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            z2 = pyro.sample("z2", dist.Categorical(logits=self.step))
            pyro.sample("z1", dist.Categorical(logits=self.plan[z2]))


def test_a_hierarchical_program_of_ones_own(
    make_backbone: Callable[..., Backbone], make_batch: Callable[..., Batch]
) -> None:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model, guide, batch = Plan(backbone), PlanGuide(), make_batch(backbone)
    rows = []
    log_q = []
    for z1 in range(3):
        for z2 in range(2):
            at = torch.tensor([z1]), torch.tensor([z2])
            prior = model.plan.log_softmax(0)[z1] + model.step.log_softmax(1)[z1, z2]
            rows.append(prior + model.decoder(batch, *at).log_prob(batch.response))
            log_q.append(guide.step.log_softmax(0)[z2] + guide.plan.log_softmax(1)[z2, z1])
    log_joint, log_q = torch.stack(rows), torch.stack(log_q)[:, None]
    elbo = (log_q.exp() * (log_joint - log_q)).sum(0)
    names, parameters = zip(*nn.ModuleDict({"m": model, "g": guide}).named_parameters(), strict=True)
    kept = [p for p in parameters if p.requires_grad]
    for objective, expected in ((MarginalLikelihood(), log_joint.logsumexp(0)), (ELBO(), elbo)):
        loss = Inference(objective, Enumerate(), Exact())(model, guide, batch)
        torch.testing.assert_close(loss.bound, expected.detach(), **EXACT)
        truth = torch.autograd.grad(-expected.mean(), kept, allow_unused=True, retain_graph=True)
        found = torch.autograd.grad(loss.surrogate, kept, allow_unused=True)
        assert any(g is not None and g.abs().max() > 1e-3 for g in truth)
        for name, a, b in zip(names, found, truth, strict=False):
            if b is not None:
                torch.testing.assert_close(a, b, rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
    with torch.no_grad():
        drawn = Sample(3000)(model, guide, batch)
    error = drawn.log_w.std(0) / 3000**0.5
    assert ((drawn.log_w.mean(0) - elbo).abs() < 4 * error).all()


class Rename(nn.Module):
    """A guide that calls the latent by another name, and draws ``more`` beside it."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            for name in self.names:
                pyro.sample(name, dist.Categorical(logits=torch.zeros(3)))


@pytest.mark.parametrize("names", [("w",), ("z", "w"), ()], ids=["renamed", "one more", "none"])
@pytest.mark.parametrize("expectation", [Enumerate(), Sample(2)], ids=["enumerate", "sample"])
def test_sites_that_differ_are_named(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    expectation: Any,
    names: tuple[str, ...],
) -> None:
    backbone = make_backbone("llama")
    model, batch = make_model(backbone), make_batch(backbone)
    with pytest.raises(
        ValueError, match=r"model has \['z'\], the guide \[" + ", ".join(map(repr, sorted(names)))
    ):
        expectation(model, Rename(*names), batch)


def test_a_site_outside_the_plate_is_named() -> None:
    def model(batch: Batch) -> None:
        pyro.sample("z", dist.Normal(torch.zeros(5), 1.0))
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=batch.features["y"].float())

    def guide(batch: Batch) -> None:  # noqa: ARG001
        pyro.sample("z", dist.Normal(torch.zeros(5), 1.0))

    with pytest.raises(ValueError, match=r"site z: its log_prob has shape .* plate data at dim=-1"):
        Sample(2)(model, guide, gaussian_batch())


def test_enumerating_the_reals_is_refused() -> None:
    with pytest.raises(ValueError, match=r"site z \(Normal\) has no finite support; .* sample"):
        Enumerate()(LinearGaussian(), GaussianGuide(), gaussian_batch())


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ((MarginalLikelihood(), Sample(), Pathwise(), {}), "MarginalLikelihood .* Sample.* needs Enumerate"),
        ((ELBO(), Sample(), Exact(), {}), "Exact .* Sample.* needs Enumerate"),
        ((ELBO(), Enumerate(), Pathwise(), {}), "Pathwise .* Enumerate.* needs Sample"),
        ((ELBO(), Sample(), Pathwise(), {"m": MutualInformation()}), "MutualInformation .* needs Enumerate"),
        (
            (ELBO(), Sample(), Pathwise(), {"v": VariationalInformation()}),
            "VariationalInformation .* needs Enumerate",
        ),
        ((ELBO(), Sample(), Pathwise(), {"f": ForwardKL()}), "ForwardKL: a single draw"),
    ],
)
def test_choices_that_do_not_go_together(parts: tuple[Any, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Inference(*parts)


@pytest.mark.parametrize(
    ("expectation", "gradient", "latent", "named"),
    [
        (Enumerate(), Exact(), Normal(2), "Enumerate needs .*; v is Normal.*inference=elbo_pathwise"),
        (Sample(), Pathwise(), Categorical(2), "Pathwise needs .*; v is Categorical.*inference=marginal"),
    ],
)
def test_latents_that_cannot_do_it_are_refused_with_a_pairing_that_works(
    expectation: Any, gradient: Any, latent: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Inference(ELBO(), expectation, gradient).check({"v": latent})


class Infinite(Term):
    expectations = (Enumerate,)

    def value(self, log: LogQuantities) -> Tensor:
        return log.log_lik.sum(0) * torch.inf


def test_a_term_of_no_weight_has_no_part_in_the_loss(toy: Toy) -> None:
    with_it, without = enumerated(more=Infinite(weight=0.0)), enumerated()
    for share in (0.0, 1.0):
        a, b = (inference(toy.model, toy.guide, toy.batch, share) for inference in (with_it, without))
        assert torch.equal(a.surrogate, b.surrogate)
        assert torch.equal(a.objective, b.objective)
    assert not a.terms["more"].isfinite().any()


@pytest.mark.parametrize(
    ("objective", "latents", "mend"),
    [
        (Enumerate(), {"z": Categorical(2), "w": Normal(1)}, "ScoreFunction .inference=elbo_rloo"),
        (Enumerate(), {"w": Normal(1)}, "Pathwise .inference=elbo_pathwise"),
    ],
)
def test_the_mend_is_for_all_latents(objective: Any, latents: dict[str, Latent], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        Inference(ELBO(), objective, Exact()).check(latents)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_below_zero_or_not_finite_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="MutualInformation: weight"):
        MutualInformation(weight)


def test_values_of_probability_zero_count_nothing() -> None:
    lik = torch.tensor([[-3.0], [-2.0], [-5.0]], dtype=torch.float64, requires_grad=True)
    prior = torch.tensor([[0.5], [0.5], [0.0]], dtype=torch.float64).log()
    log_q = torch.tensor([[0.25], [0.75], [0.0]], dtype=torch.float64).log().requires_grad_()
    log = LogQuantities(lik, prior, log_q, True)
    two = LogQuantities(lik[:2], prior[:2], log_q[:2], True)
    for function in (ELBO().bound, MarginalLikelihood().bound, MutualInformation().value, ForwardKL().value):
        torch.testing.assert_close(function(log), function(two))
        for gradient in torch.autograd.grad(function(log).sum(), (lik, log_q), allow_unused=True):
            assert gradient is None or gradient.isfinite().all()
    assert xlogp(torch.tensor(-torch.inf), torch.tensor(torch.inf)) == 0


YAMLS = sorted((Path(next(iter(stratagem.configs.__path__))) / "inference").glob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_each_inference_that_ships(
    path: Path,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> None:
    """It goes with one family of latents at least, and there its loss moves z's conditioning and the guide."""
    inference: Inference = instantiate(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    backbone, ran = make_backbone("llama"), 0
    for latent in (Categorical(3), Normal(2)):
        try:
            inference.check({"z": latent})
        except ValueError:
            continue
        model = make_model(backbone, latents={"z": latent}, router=PooledRouter)
        guide = AmortizedGuide(model)
        randomise(nn.ModuleDict({"model": model, "guide": guide}))
        batch = make_batch(backbone)
        parts = {PARTITION: torch.randn(len(batch), 3).softmax(-1)}
        loss = inference(model, guide, replace(batch, features=batch.features | parts))
        loss.surrogate.backward()
        assert loss.surrogate.isfinite()
        assert loss.bound.isfinite().all()
        assert not loss.bound.requires_grad
        for part in (model.conditionings, guide):
            gradients = [p.grad for p in part.parameters() if p.requires_grad and p.grad is not None]
            assert any(g.abs().max() > 0 for g in gradients)
            assert all(g.isfinite().all() for g in gradients)
        ran += 1
    assert ran
