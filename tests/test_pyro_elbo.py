"""Pyro's ELBOs against our own sums, in value and in expected gradient, and the refusal of those that are wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import stratagem.configs
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pyro.infer import TraceGraph_ELBO, TraceTMC_ELBO, config_enumerate
from pyro.infer.tracegraph_elbo import TrackNonReparam
from pyro.ops.provenance import get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from stratagem.guides import AmortizedGuide
from stratagem.inference.algorithm import Algorithm
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact
from stratagem.inference.inference import Inference
from stratagem.inference.objectives import ELBO
from stratagem.inference.pyro_elbo import PASSED, REFUSED, PyroELBO
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    LanguageModel,
    Latent,
    LatentLM,
    Normal,
    PooledRouter,
)
from torch import Tensor, nn

from .gaussian_fixtures import Chain as DependentSites
from .gaussian_fixtures import batch_of
from .inference_fixtures import (
    EXACT,
    GaussianGuide,
    LinearGaussian,
    Toy,
    close,
    expected_gradient,
    gaussian_batch,
    gaussian_elbo,
)

YAMLS = Path(next(iter(stratagem.configs.__path__))) / "inference"


def enumerated(toy: Toy, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Our ELBO by enumeration: its mean over the data, and the gradient of the loss."""
    loss = Inference(ELBO(), Enumerate(), Exact())(toy.model, toy.guide, batch)
    return loss.bound.mean(), toy.gradients(loss.surrogate)


class At(Messenger):
    """Gives a normal site the values ``loc + scale * noise``, ``(S, 1)`` or ``(S, 1, D)``, in place of draws."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, msg: Message) -> None:
        law = msg["fn"]
        if getattr(law, "has_rsample", False) and not msg["is_observed"] and not msg["done"]:
            msg["value"], msg["done"] = law.mean + law.stddev * self.noise, True


PLUS_MINUS = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
"""Noise of mean 0 and variance 1: the mean of a quadratic over these two is its mean over a Gaussian."""


def test_enumeration_is_that_of_our_own(toy: Toy) -> None:
    loss = PyroELBO("TraceEnum_ELBO")(toy.model, toy.guide, toy.batch)
    bound, gradients = enumerated(toy, toy.batch)
    torch.testing.assert_close(loss.bound, bound.expand(3), **EXACT)
    torch.testing.assert_close(loss.objective, bound, **EXACT)
    torch.testing.assert_close(-loss.surrogate.detach(), bound, **EXACT)
    assert max(float(g.abs().max()) for n, g in gradients.items() if n.startswith("guide.")) > 1e-3
    close(toy.gradients(loss.surrogate), gradients)


def test_a_guide_that_is_not_enumerated_is_another(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratagem.inference.pyro_elbo.config_enumerate", lambda guide, **_: guide)
    with pytest.warns(UserWarning, match="found no sample sites configured for enumeration"):
        loss = PyroELBO("TraceEnum_ELBO")(toy.model, toy.guide, toy.batch)
    with pytest.raises(AssertionError):
        close(toy.gradients(loss.surrogate), enumerated(toy, toy.batch)[1])


@pytest.mark.parametrize("name", ["Trace_ELBO", "TraceGraph_ELBO"])
def test_draws_are_unbiased_in_value_and_gradient(toy: Toy, name: str) -> None:
    """Summed over all pairs of draws of all latents."""
    value, gradients = expected_gradient(toy, PyroELBO(name, num_particles=2), particles=2)
    bound, expected = enumerated(toy, toy.rows[0])
    torch.testing.assert_close(value, bound, **EXACT)
    close(gradients, expected)


def test_the_graph_needs_the_record_of_what_costs_depend_on(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the score of the draws is lost, and the law fails."""
    monkeypatch.setattr(TraceGraph_ELBO, "_get_trace", Unrecorded._get_trace)
    _, gradients = expected_gradient(toy, PyroELBO("TraceGraph_ELBO", num_particles=2), particles=2)
    with pytest.raises(AssertionError):
        close(gradients, enumerated(toy, toy.rows[0])[1])


@pytest.mark.parametrize("kind", ["prefix", "slots"])
def test_the_record_passes_through_the_lm(
    kind: str,
    architecture: str,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
) -> None:
    backbone = make_backbone(architecture)
    with TrackNonReparam():
        trace = pyro.poutine.trace(make_model(backbone, kind)).get_trace(make_batch(backbone))
    trace.compute_log_prob()
    assert get_provenance(trace.nodes["y"]["log_prob"]) == {"z"}


class Unrecorded(TraceGraph_ELBO):
    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        return pyro.infer.enum.get_importance_trace(
            "dense", self.max_plate_nesting, model, guide, args, kwargs
        )


def test_the_surrogate_of_the_graph_is_what_pyro_differentiates(toy: Toy) -> None:
    """The same draws, Pyro's ``loss_and_grads`` and ours."""
    pyro.set_rng_seed(3)
    loss = PyroELBO("TraceGraph_ELBO", num_particles=2)(toy.model, toy.guide, toy.batch)
    found = toy.gradients(loss.surrogate)
    pyro.set_rng_seed(3)
    elbo = TraceGraph_ELBO(num_particles=2, max_plate_nesting=1, vectorize_particles=True)
    value = elbo.loss_and_grads(toy.model, toy.guide, toy.batch)
    assert float(loss.surrogate.detach()) == pytest.approx(value / 3, abs=1e-10)
    close(found, {n: p.grad / 3 for n, p in toy.parameters.items() if p.grad is not None})


GAUSSIAN = ["Trace_ELBO", "TraceGraph_ELBO", "TraceMeanField_ELBO"]


@pytest.mark.parametrize("name", GAUSSIAN)
def test_a_linear_gaussian_has_its_closed_form(name: str) -> None:
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    parameters = dict(nn.ModuleDict({"model": model, "guide": guide}).named_parameters())
    bound = gaussian_elbo(model, guide, batch.features["y"]).mean()
    expected = torch.autograd.grad(-bound, list(parameters.values()))
    with At(PLUS_MINUS):
        loss = PyroELBO(name, num_particles=2)(model, guide, batch)
    torch.testing.assert_close(loss.objective, bound.detach(), **EXACT)
    found = torch.autograd.grad(loss.surrogate, list(parameters.values()))
    close(dict(zip(parameters, found, strict=True)), dict(zip(parameters, expected, strict=True)))
    with At(PLUS_MINUS[:1]):
        one_sided = PyroELBO(name)(model, guide, batch)
    assert abs(one_sided.objective - bound) > 1e-3, "one draw must not be enough"


def test_the_divergence_of_the_mean_field_is_not_drawn() -> None:
    """Whatever the draw, the bound and the likelihood there differ by the closed form."""
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    y = batch.features["y"]
    mean, sd = guide.a * y + guide.b, guide.r.exp()
    divergence = 0.5 * (sd**2 + mean**2 - 1) - guide.r
    gaps = {}
    for name in ("TraceMeanField_ELBO", "Trace_ELBO"):
        gaps[name] = []
        for noise in (-1.5, 0.2):
            with At(torch.tensor(noise, dtype=torch.float64)):
                loss = PyroELBO(name)(model, guide, batch)
            log_lik = dist.Normal(model.w * (mean + noise * sd) + model.c, model.log_s.exp()).log_prob(y)
            gaps[name].append((log_lik.mean() - loss.objective).detach())
    for gap in gaps["TraceMeanField_ELBO"]:
        torch.testing.assert_close(gap, divergence.mean().detach(), **EXACT)
    assert abs(gaps["Trace_ELBO"][0] - gaps["Trace_ELBO"][1]) > 0.1


def test_tensor_monte_carlo_of_one_latent_is_the_mean_weight() -> None:
    """On the same draws: in value, and in the gradient through them."""
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    parameters = dict(nn.ModuleDict({"model": model, "guide": guide}).named_parameters())
    pyro.set_rng_seed(1)
    loss = PyroELBO("TraceTMC_ELBO", num_particles=5)(model, guide, batch)
    pyro.set_rng_seed(1)
    log = Sample(5)(model, guide, batch)
    bound = (log.log_w.logsumexp(0) - math.log(5)).mean()
    # Pyro subtracts log S in float32.
    torch.testing.assert_close(loss.objective, bound.detach(), rtol=0, atol=1e-7)
    found, expected = (
        dict(zip(parameters, torch.autograd.grad(scalar, list(parameters.values())), strict=True))
        for scalar in (loss.surrogate, -bound)
    )
    close(found, expected)


def test_tensor_monte_carlo_lies_between_the_elbo_and_log_p() -> None:
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    y = batch.features["y"]
    with torch.no_grad():
        elbo = gaussian_elbo(model, guide, y).mean()
        spread = (model.w**2 + (2 * model.log_s).exp()).sqrt()
        log_p = dist.Normal(model.c, spread).log_prob(y).mean()
        values = torch.stack(
            [PyroELBO("TraceTMC_ELBO", 4)(model, guide, batch).objective for _ in range(400)]
        )
    error = values.std() / 20
    # 4 standard errors on each side: a false alarm once in 10000 seeds, of which this is one.
    assert elbo + 4 * error < values.mean() < log_p - 4 * error


def test_tensor_monte_carlo_refuses_a_guide_whose_sites_depend_on_each_other() -> None:
    """Pyro would draw z2 given one z1 and weigh it given each: with d = 0.9 its mean is 1.5 nats above log p."""
    problem = DependentSites()
    y = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"law of z2 depends on a site before it.*use inference=iwae"):
        PyroELBO("TraceTMC_ELBO", 4)(problem.model, problem.guide, batch_of(y))


def test_tensor_monte_carlo_gives_a_categorical_guide_no_gradient(toy: Toy) -> None:
    """Why it is refused there; the law that would have to hold fails."""
    guide = config_enumerate(toy.guide, default="parallel", num_samples=4)
    loss = TraceTMC_ELBO(max_plate_nesting=1).differentiable_loss(toy.model, guide, toy.batch)
    gradients = toy.gradients(loss)
    assert all(g.abs().max() < 1e-12 for n, g in gradients.items() if n.startswith("guide."))
    assert any(g.abs().max() > 1e-3 for n, g in gradients.items() if n.startswith("model."))
    with pytest.raises(ValueError, match=r"TraceTMC_ELBO needs every latent to be reparam.* is Categorical"):
        PyroELBO("TraceTMC_ELBO", 4).check(toy.model.latents)


@pytest.fixture
def mixed(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> tuple[LatentLM, AmortizedGuide, Batch]:
    """One latent of each kind."""
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model = make_model(backbone, latents={"z": Categorical(3), "v": Normal(2)}, router=PooledRouter)
    guide = AmortizedGuide(model).double()
    randomise(nn.ModuleDict({"model": model, "guide": guide}))
    return model, guide, make_batch(backbone)


def test_enumeration_beside_a_draw(mixed: tuple[LatentLM, AmortizedGuide, Batch]) -> None:
    """The sum over z written out, v being the same draw."""
    model, guide, batch = mixed
    algorithm = PyroELBO("TraceEnum_ELBO", num_particles=2)
    algorithm.check(model.latents)
    noise = torch.randn(2, 1, 2, dtype=torch.float64)
    with At(noise):
        loss = algorithm(model, guide, batch)
    prior, posterior = model.router(batch), guide.posterior(batch)
    total = torch.zeros((), dtype=torch.float64)
    for s in range(2):
        v = posterior["v"].mean + posterior["v"].stddev * noise[s]
        for k in range(3):
            z = torch.full((3,), k)
            log_q = posterior["z"].log_prob(z) + posterior["v"].log_prob(v)
            log_joint = prior["z"].log_prob(z) + prior["v"].log_prob(v)
            log_joint = log_joint + model.decoder(batch, {"z": z, "v": v}).log_prob(batch.response)
            total = total + (posterior["z"].log_prob(z).exp() * (log_joint - log_q)).mean() / 2
    torch.testing.assert_close(loss.objective, total.detach(), **EXACT)
    parameters = dict(nn.ModuleDict({"m": model, "g": guide}).named_parameters())
    names = [n for n, p in parameters.items() if p.requires_grad]
    found, expected = (
        torch.autograd.grad(x, [parameters[n] for n in names]) for x in (loss.surrogate, -total)
    )
    close(dict(zip(names, found, strict=True)), dict(zip(names, expected, strict=True)))


@contextmanager
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Size]]:
    """The batch shape of each scoring of responses."""
    seen: list[torch.Size] = []
    score = LanguageModel.token_log_probs

    def counted(self: LanguageModel, value: Tensor) -> Tensor:
        seen.append(self.batch_shape)
        return score(self, value)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "token_log_probs", counted)
        yield seen


SHAPES: dict[str, tuple[type[Latent], list[tuple[int, ...]]]] = {
    "Trace_ELBO": (Categorical, [(2, 3)]),
    "TraceGraph_ELBO": (Categorical, [(2, 3)]),
    "TraceEnum_ELBO": (Categorical, [(3, 2, 3)]),
    "TraceMeanField_ELBO": (Normal, [(2, 3)]),
    "TraceTMC_ELBO": (Normal, [(2, 3), (2, 3)]),
}


@pytest.mark.parametrize("name", sorted(PASSED))
def test_passes_of_the_lm(
    name: str,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One for all particles and values, with gradients and without, two for tensor Monte Carlo."""
    latent, shapes = SHAPES[name]
    backbone = make_backbone("llama")
    model = make_model(backbone, latents={"z": latent(3)})
    guide, batch = AmortizedGuide(model), make_batch(backbone)
    algorithm = PyroELBO(name, num_particles=2)
    algorithm.check(model.latents)
    for grad in (True, False):
        with passes(monkeypatch) as seen, torch.set_grad_enabled(grad):
            loss = algorithm(model, guide, batch)
        assert [tuple(shape) for shape in seen] == shapes
        assert loss.surrogate.requires_grad == grad
        assert loss.bound.shape == (3,)
        assert loss.bound.isfinite().all()
        assert not loss.bound.requires_grad
    algorithm.elbo.max_plate_nesting = float("inf")
    with passes(monkeypatch) as seen:
        algorithm(model, guide, batch)
    assert len(seen) > len(shapes), "Pyro must have looked for the plates by itself"


def test_the_value_is_the_same_without_gradients(toy: Toy) -> None:
    for name in ("Trace_ELBO", "TraceGraph_ELBO", "TraceEnum_ELBO"):
        found = []
        for grad in (True, False):
            pyro.set_rng_seed(2)
            with torch.set_grad_enabled(grad):
                found.append(PyroELBO(name, 2)(toy.model, toy.guide, toy.batch).objective)
        torch.testing.assert_close(found[0], found[1], **EXACT)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_those_that_are_wrong_are_refused_with_ours(name: str) -> None:
    assert hasattr(pyro.infer, name)
    with pytest.raises(ValueError, match=f"{name} is not passed through: .*Use inference=") as refusal:
        PyroELBO(name)
    mends = re.findall(r"inference=(\w+)", str(refusal.value))
    assert mends
    for mend in mends:
        ours = instantiate(OmegaConf.to_container(OmegaConf.load(YAMLS / f"{mend}.yaml"), resolve=True))
        assert isinstance(ours, Inference)


class Opaque(Normal):
    """A latent of which nothing is known."""

    capabilities = frozenset()


Z, V, U = Categorical(3), Normal(2), Opaque(2)

REFUSALS: list[tuple[str, Mapping[str, Latent], str]] = [
    ("TraceMeanField_ELBO", {"z": Z}, "reparameterised .*; z is Categorical"),
    ("TraceMeanField_ELBO", {"v": V, "z": Z}, "reparameterised .*; z is Categorical"),
    ("TraceTMC_ELBO", {"z": Z}, "reparameterised .*; z is Categorical"),
    ("TraceEnum_ELBO", {"v": V}, "one latent at least to be enumerable .*; v is Normal"),
    ("TraceEnum_ELBO", {"z": Z, "u": U}, "scorable .* or reparameterised .*; u is Opaque"),
    ("Trace_ELBO", {"u": U}, "scorable .* or reparameterised .*; u is Opaque"),
    ("TraceGraph_ELBO", {"u": U}, "scorable .* or reparameterised .*; u is Opaque"),
]


@pytest.mark.parametrize(("name", "latents", "named"), REFUSALS)
def test_latents_that_cannot_do_it_are_refused(name: str, latents: Mapping[str, Latent], named: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} needs .*{named}.*inference=pyro_trace"):
        PyroELBO(name, num_particles=2).check(latents)


@pytest.mark.parametrize("name", sorted(PASSED))
def test_what_is_accepted_is_what_works(name: str) -> None:
    accepted = []
    for latents in ({"z": Z}, {"v": V}, {"z": Z, "v": V}):
        try:
            PyroELBO(name, num_particles=2).check(latents)
        except ValueError:
            continue
        accepted.append("".join(latents))
    assert (
        accepted
        == {
            "Trace_ELBO": ["z", "v", "zv"],
            "TraceGraph_ELBO": ["z", "v", "zv"],
            "TraceEnum_ELBO": ["z", "zv"],
            "TraceMeanField_ELBO": ["v"],
            "TraceTMC_ELBO": ["v"],
        }[name]
    )


@pytest.mark.parametrize(
    ("name", "particles", "named"),
    [
        ("Trace_MCMC", 1, "no ELBO 'Trace_MCMC' is passed through; there are Trace_ELBO, "),
        ("Trace_ELBO", 0, "Trace_ELBO needs num_particles of at least 1, got 0"),
        ("TraceTMC_ELBO", 1, "TraceTMC_ELBO needs num_particles of at least 2, got 1"),
    ],
)
def test_unknown_names_and_too_few_particles_are_refused(name: str, particles: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PyroELBO(name, particles)


def test_each_that_is_passed_has_its_yaml() -> None:
    built = [
        instantiate(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
        for path in sorted(YAMLS.glob("pyro_*.yaml"))
    ]
    assert all(isinstance(algorithm, Algorithm) for algorithm in built)
    assert sorted(algorithm.name for algorithm in built) == sorted(PASSED)
