"""Relaxed draws of categorical latents: Gumbel-softmax, straight-through and REBAR, by quadrature over their noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.expectations import Enumerate, Sample, site_log_prob
from stratagem.inference.gradients import (
    Gradient,
    GumbelSoftmax,
    LeaveOneOut,
    Rebar,
    ScoreFunction,
    gumbel_softmax,
    rebar,
)
from stratagem.inference.gradients.relaxed import RelaxedDraws, one_hot_of_largest, perturbed
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, IWAE, PIWAE, FreeBitsPerDimension, Objective
from stratagem.inference.schedules import Linear
from stratagem.inference.terms import RouterSupport, Term
from stratagem.models import Backbone, Batch, Capability, Categorical, Latent, LatentLM, Normal, PooledRouter
from torch import Tensor, nn

from .gradient_fixtures import distance, expected, one_draw, rule, surrogates, truth
from .inference_fixtures import EXACT, Forced, GaussianGuide, LinearGaussian, Toy, close, gaussian_batch

MakeToy = Callable[[Mapping[str, Latent]], Toy]


@pytest.fixture
def make_toy(
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
    unpad: Callable[[Batch], list[Batch]],
) -> MakeToy:
    def make(latents: Mapping[str, Latent]) -> Toy:
        backbone = make_backbone("gpt2", dtype=torch.float64)
        model = make_model(backbone, latents=latents, router=PooledRouter)
        guide = AmortizedGuide(model, pooling="attention").double()
        randomise(nn.ModuleDict({"model": model, "guide": guide}))
        batch = make_batch(backbone)
        return Toy(model, guide, batch, unpad(batch))

    return make


def test_the_rule_is_the_law_of_the_draws() -> None:
    """Weights of the law of z, Gumbel differences of the law they have without regard to z."""
    log_p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    noise, weight = one_draw(log_p, 30)
    z = (log_p + noise).argmax(1)
    for k in range(3):
        torch.testing.assert_close(weight[z == k].sum(), log_p[k].exp(), **EXACT)
    torch.manual_seed(0)
    drawn = perturbed(log_p.expand(200_000, 3))
    for tau in (0.5, 1.0):
        soft, exact = (drawn / tau).softmax(1), weight @ ((log_p + noise) / tau).softmax(1)
        # 4 standard errors on six numbers: a false alarm once in 2600 seeds, of which this is one.
        assert ((soft.mean(0) - exact).abs() < 4 * soft.std(0) / 200_000**0.5).all()
    frequency = one_hot_of_largest(drawn).mean(0)
    assert ((frequency - log_p.exp()).abs() < 4 * (0.25 / 200_000) ** 0.5).all()


@pytest.mark.parametrize(
    ("latents", "particles", "num", "eta", "temperature", "objective"),
    [
        ({"z": Categorical(2)}, 1, 32, 1.0, 0.5, ELBO()),
        ({"z": Categorical(2)}, 1, 32, 0.3, 1.0, ELBO()),
        ({"z": Categorical(3)}, 1, 14, 1.0, 0.5, ELBO()),
        ({"a": Categorical(2), "b": Categorical(2)}, 1, 16, 1.0, 1.0, ELBO()),
        ({"z": Categorical(2)}, 2, 16, 0.7, 0.5, ELBO(beta=0.5)),
        ({"z": Categorical(2)}, 2, 16, 1.0, 0.5, IWAE()),
        ({"z": Categorical(2)}, 2, 16, 1.0, 0.5, PIWAE()),
    ],
    ids=["K=2", "eta", "K=3", "two sites", "two draws", "iwae", "own bounds"],
)
def test_rebar_is_unbiased(
    make_toy: MakeToy,
    latents: Mapping[str, Latent],
    particles: int,
    num: int,
    eta: float,
    temperature: float,
    objective: Objective,
) -> None:
    toy = make_toy(latents)
    value, found = expected(toy, Rebar(eta, temperature), num, particles, objective)
    true_value, true = truth(toy, objective, particles)
    torch.testing.assert_close(value, true_value, rtol=0, atol=1e-9)
    assert all(true[f"guide.readers.{name}.head.0.weight"].abs().max() > 0.1 for name in latents)
    close(found, true)


def with_copies(
    log: LogQuantities, change: Callable[[Tensor, Tensor, Tensor], list[Tensor]]
) -> LogQuantities:
    """The three copies of each particle, changed."""
    return replace(
        log,
        **{
            name: torch.cat(change(*getattr(log, name).chunk(3)))
            for name in ("log_lik", "log_prior", "log_q")
        },
    )


class WrongSign(Rebar):
    """The two relaxations in each other's place."""

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        return super().surrogate(
            objective, with_copies(log, lambda plain, soft, given_z: [plain, given_z, soft])
        )


class NoPath(Rebar):
    """The control variate is taken off and not given back."""

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        return super().surrogate(
            objective, with_copies(log, lambda plain, *c: [plain, c[0].detach(), c[1].detach()])
        )


class Unconditional(Rebar):
    """The path of the relaxation without regard to what was drawn."""

    def draws(self, share: float) -> RelaxedDraws:
        return _Unconditional("Rebar", self.temperature.at(share))


class _Unconditional(rebar.CoupledDraws):
    def fill(self, name: str, log_p: Tensor) -> Tensor:
        z, soft, _ = super().fill(name, log_p).chunk(3)
        return torch.cat([z, soft, soft])


@pytest.mark.parametrize(
    "wrong", [WrongSign(), NoPath(), Unconditional()], ids=["sign", "no path", "not conditional"]
)
@pytest.mark.parametrize("K", [2, 3])
def test_a_wrong_rebar_does_not_pass(make_toy: MakeToy, wrong: Rebar, K: int) -> None:
    toy = make_toy({"z": Categorical(K)})
    with pytest.raises(AssertionError, match=r"^guide\."):
        close(expected(toy, wrong, 14)[1], truth(toy, ELBO(), 1)[1])


def test_the_control_variate_takes_variance_away_in_the_guide_alone(make_toy: MakeToy) -> None:
    """The model's gradient is that of the plain draws, one by one."""
    toy = make_toy({"z": Categorical(2)})
    nodes = rule(toy, 8)
    places = [
        toy.parameters[name] for name in ("guide.readers.z.head.0.weight", "model.conditionings.z.weight")
    ]
    spread, of_model = [], []
    for eta in (0.0, 1.0):
        differentiated = surrogates(toy, Rebar(eta), nodes)[1]
        rows = [torch.autograd.grad(node, places, retain_graph=True) for node in differentiated]
        of_guide = torch.stack([guide.flatten() for guide, _ in rows])
        spread.append(float(nodes.weight @ ((of_guide - nodes.weight @ of_guide) ** 2).sum(1)))
        of_model.append(torch.stack([model for _, model in rows]))
    assert spread[1] < 0.1 * spread[0]
    assert of_model[0].abs().max() > 0.1
    torch.testing.assert_close(of_model[1], of_model[0], **EXACT)


def test_without_a_control_variate_it_is_reinforce(toy: Toy) -> None:
    """And the bound is that of the plain draws, which terms are given as well."""
    torch.manual_seed(3)
    recorded = Recorded(0.0)
    inference = Inference(IWAE(), Sample(4), Rebar(0.0), {"recorded": recorded})
    loss = inference(toy.model, toy.guide, toy.batch)
    log = recorded.log
    z = {name: site.z for name, site in log.sites.items()}
    assert all(value.shape == (4, 3) and not value.is_floating_point() for value in z.values())
    with ForcedTo(z):
        plain = Inference(IWAE(), Sample(4), ScoreFunction())(toy.model, toy.guide, toy.batch)
        again = Sample(4)(toy.model, toy.guide, toy.batch)
    torch.testing.assert_close(loss.bound, plain.bound, **EXACT)
    close(toy.gradients(loss.surrogate), toy.gradients(plain.surrogate))
    for name, site in log.sites.items():
        for mine, theirs in (
            (site.prior, again.sites[name].prior),
            (site.posterior, again.sites[name].posterior),
        ):
            torch.testing.assert_close(mine.logits, theirs.logits, **EXACT)
        torch.testing.assert_close(site.log_q, again.sites[name].log_q, **EXACT)
    torch.testing.assert_close(log.log_w, again.log_w, **EXACT)


class Recorded(Term):
    """Keeps what terms are given."""

    expectations = (Sample,)

    def value(self, log: LogQuantities) -> Tensor:
        self.log = log
        return log.log_q.mean(0)


class ForcedTo(Forced):
    """Values for each draw and datum."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.z and not msg["done"]:
            msg["value"], msg["done"] = self.z[msg["name"]], True


@pytest.mark.parametrize("make", [GumbelSoftmax, Rebar])
def test_one_by_one_is_the_same(toy: Toy, make: Callable[[], Gradient]) -> None:
    found = []
    for one_by_one in (False, True):
        torch.manual_seed(1)
        inference = Inference(IWAE(), Sample(2, one_by_one), make(), {"recorded": Recorded()})
        found.append(toy.gradients(inference(toy.model, toy.guide, toy.batch).surrogate))
    close(found[1], found[0])


COLD = (0.02, 0.01)


def check_rate(toy: Toy, make: Callable[[float], Gradient]) -> None:
    """The law: value, gradient of the model and gradient of the guide are off by less and less, at last at rate 1."""
    value, true = truth(toy, ELBO(), 1)
    errors = []
    for temperature in (1.0, 0.25, *COLD):
        found_value, found = expected(toy, make(temperature), 100)
        of_value = float((found_value - value).abs())
        errors.append((of_value, distance(found, true, "model."), distance(found, true, "guide.")))
    for warm, cold in itertools.pairwise(errors):
        assert all(b < a for a, b in zip(warm, cold, strict=True))
    for warm, cold in zip(errors[-2], errors[-1], strict=True):
        assert warm / cold == pytest.approx(2, rel=0.15)


def test_the_bias_of_gumbel_softmax_falls_as_the_temperature(make_toy: MakeToy) -> None:
    check_rate(make_toy({"z": Categorical(2)}), GumbelSoftmax)


class WrongNoise(gumbel_softmax.SoftenedDraws):
    """The temperature is that of the logits and not that of the noise."""

    def fill(self, name: str, log_p: Tensor) -> Tensor:  # noqa: ARG002
        return (gumbel_softmax.perturbed(log_p) + (1 / self.temperature - 1) * log_p).softmax(-1)


class NoPath(gumbel_softmax.SoftenedDraws):
    def fill(self, name: str, log_p: Tensor) -> Tensor:
        return super().fill(name, log_p).detach()


class WrongPath(gumbel_softmax.SoftenedDraws):
    def fill(self, name: str, log_p: Tensor) -> Tensor:
        right = super().fill(name, log_p)
        return 2 * right.detach() - right


@pytest.mark.parametrize("draws", [WrongNoise, NoPath, WrongPath])
def test_a_wrong_relaxation_does_not_pass(
    make_toy: MakeToy, monkeypatch: pytest.MonkeyPatch, draws: type[RelaxedDraws]
) -> None:
    monkeypatch.setattr(gumbel_softmax, "SoftenedDraws", draws)
    with pytest.raises(AssertionError):
        check_rate(make_toy({"z": Categorical(2)}), GumbelSoftmax)


def test_straight_through_is_unbiased_in_the_model_and_tends_to_the_slopes_in_the_guide(
    make_toy: MakeToy,
) -> None:
    """``p_0 p_1 (f(1) - f(0))`` becomes ``p_0 p_1 (f'(0) + f'(1)) / 2`` as the temperature falls."""
    toy = make_toy({"z": Categorical(2)})
    value, true = truth(toy, ELBO(), 1)
    row = toy.rows[0]
    ends = torch.eye(2, dtype=torch.float64)[:, None].requires_grad_()  # (2, 1, 2)
    lik = toy.model.decoder(row, {"z": ends}).log_prob(row.response)  # (2, 1)
    slopes = torch.autograd.grad(lik.sum(), ends)[0][:, 0] @ torch.tensor([-1.0, 1.0], dtype=torch.float64)
    off = (slopes.mean() - (lik[1, 0] - lik[0, 0])).detach()
    assert off.abs() > 0.01, "no straight line"
    probabilities = toy.guide.posterior(row)["z"].probs[0]
    limit = toy.gradients(off * probabilities[1])
    errors = []
    for tau in (0.5, *COLD):
        found_value, found = expected(toy, GumbelSoftmax(tau, hard=True), 100)
        torch.testing.assert_close(found_value, value, rtol=0, atol=1e-9)
        close(found, true, ("model.",))
        errors.append(distance(found, {name: true[name] + limit[name] for name in true}, "guide."))
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)
    assert errors[2] < 0.1 * distance(
        limit, {name: torch.zeros_like(g) for name, g in limit.items()}, "guide."
    )


def test_the_draws_are_weights_and_hard_ones_strategies() -> None:
    law = dist.Categorical(logits=torch.randn(5, 4, 3))
    for hard in (False, True):
        with GumbelSoftmax(0.7, hard).draws(0.0):
            z = pyro.sample("z", law)
        torch.testing.assert_close(z.sum(-1), torch.ones(5, 4))
        assert bool(((z - z.round()).abs() < 1e-6).all()) is hard


def test_the_temperature_follows_its_schedule() -> None:
    for gradient in (GumbelSoftmax(Linear(1.0, 0.1)), Rebar(temperature=Linear(1.0, 0.1))):
        assert [gradient.draws(share).temperature for share in (0.0, 0.5, 1.0)] == pytest.approx(
            [1.0, 0.55, 0.1]
        )


def test_discrete_and_continuous_latents_together(make_toy: MakeToy) -> None:
    toy = make_toy({"k": Categorical(3), "v": Normal(2)})
    gradient = GumbelSoftmax(0.8)
    gradient.bind(toy.model)
    inference = Inference(ELBO(), Sample(2), gradient)
    inference.check(toy.model.latents)
    torch.manual_seed(5)
    loss = inference(toy.model, toy.guide, toy.batch)
    torch.manual_seed(5)
    q, p = toy.guide.posterior(toy.batch), toy.model.router(toy.batch)
    k = torch.nn.functional.gumbel_softmax(q["k"].logits.expand(2, 3, 3), 0.8)
    v = q["v"].expand((2, 3)).rsample()
    by_hand = toy.model.decoder(toy.batch, {"k": k, "v": v}).log_prob(toy.batch.response)
    by_hand = (
        by_hand + (k * (p["k"].logits - q["k"].logits)).sum(-1) + p["v"].log_prob(v) - q["v"].log_prob(v)
    )
    torch.testing.assert_close(loss.bound, by_hand.mean(0).detach(), **EXACT)
    found = toy.gradients(loss.surrogate)
    assert all(found[f"guide.readers.{name}.head.0.weight"].abs().max() > 1e-3 for name in "kv")
    close(found, toy.gradients(-by_hand.mean()))


def test_relaxed_features_are_mixtures(make_toy: MakeToy) -> None:
    latent = Categorical(3)
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(latent.features(eye), latent.features(torch.arange(3)).double(), **EXACT)
    z = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64, requires_grad=True)
    assert latent.features(z) is z
    model = make_toy({"z": latent}).model
    at_ends = model.conditionings["z"](torch.arange(3)).key_values.keys[0]
    mixed = model.conditionings["z"](z).key_values.keys[0]
    torch.testing.assert_close(mixed[0], torch.einsum("k,k...->...", z[0], at_ends), **EXACT)


@pytest.mark.parametrize(
    ("z", "named"),
    [
        (
            torch.tensor(1.0),
            r"z must be in 0\.\.2, got \[1\.0\] of type torch\.float32; give a strategy as an integer",
        ),
        (torch.tensor([0.0, 1.0]), r"z must be in 0\.\.2, got \[0\.0, 1\.0\]"),
        (torch.tensor([0.5, 0.5, 0.5]), r"must not be negative and must sum to 1; .* sums from 1\.5 to 1\.5"),
        (torch.tensor([-0.5, 1.0, 0.5]), r"weights from -0\.5 on"),
        (torch.tensor([float("nan"), 1.0, 0.0]), r"must sum to 1; got weights from nan"),
        (torch.tensor([0.0, 1.0, 2.0]), r"sums from 3 to 3\. Give a strategy as an integer"),
    ],
    ids=["a float", "several floats", "sum", "negative", "nan", "indices"],
)
def test_features_of_what_is_no_relaxed_value_are_refused(z: Tensor, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Categorical(3).features(z)


class Indexing(nn.Module):
    """A user's program that takes z as an index, and a guide of two sites, the second given the first."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.table = nn.Parameter(torch.randn(2, 2, dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            z = pyro.sample("z", dist.Categorical(logits=self.logits))
            pyro.sample("y", dist.Normal(self.table[z][..., 0], 1.0), obs=y)

    def simple(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Categorical(logits=self.logits))

    def indexed(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            z = pyro.sample("z", dist.Categorical(logits=self.logits))
            pyro.sample("w", dist.Categorical(logits=self.table[z]))

    def mixed(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            z = pyro.sample("z", dist.Categorical(logits=self.logits))
            z = z if z.is_floating_point() else torch.eye(2, dtype=torch.float64)[z]
            pyro.sample("w", dist.Categorical(logits=z @ self.table))

    def coin(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=self.logits[0]))


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("guide", ["simple", "indexed"])
def test_a_program_that_indexes_with_a_relaxed_value_is_told_so(guide: str, one_by_one: bool) -> None:
    program = Indexing()
    inference = Inference(ELBO(), Sample(2, one_by_one), GumbelSoftmax())
    with pytest.raises(IndexError) as caught:
        inference(program, getattr(program, guide), gaussian_batch())
    assert "site z: its value is relaxed, K weights in place of an integer" in caught.value.__notes__[0]
    Inference(ELBO(), Sample(2), ScoreFunction(LeaveOneOut()))(program, program.simple, gaussian_batch())


def test_a_guide_whose_sites_depend_on_each_other_is_refused_by_rebar() -> None:
    program = Indexing()
    with pytest.raises(
        ValueError, match="site w depends on sites that are drawn before it; use gradient ScoreFunction"
    ):
        Inference(ELBO(), Sample(2), Rebar())(program, program.mixed, gaussian_batch())


@pytest.mark.parametrize("gradient", [GumbelSoftmax(), Rebar()])
def test_a_site_that_cannot_be_relaxed_is_named(gradient: Gradient) -> None:
    program = Indexing()
    with pytest.raises(
        ValueError, match=f"{type(gradient).__name__}: site z is drawn from Bernoulli, .* ScoreFunction"
    ):
        Inference(ELBO(), Sample(2), gradient)(program, program.coin, gaussian_batch())


def test_a_coin_is_scored_as_a_coin() -> None:
    """Its values are floats, and no weights."""
    law, shape = dist.Bernoulli(torch.tensor([0.3, 0.6])).expand((4, 2)), torch.Size((4, 2))
    value = law.sample()
    torch.testing.assert_close(site_log_prob("z", law, value, shape), law.log_prob(value))


def test_a_continuous_site_is_no_site_of_rebar() -> None:
    with pytest.raises(
        ValueError, match=r"Rebar needs every latent to be relaxable .*; v is Normal.*elbo_rloo"
    ):
        Inference(ELBO(), Sample(), Rebar()).check({"k": Categorical(2), "v": Normal(2)})


class Neither(Categorical):
    capabilities = frozenset({Capability.SCORABLE})


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: GumbelSoftmax(0.0), r"GumbelSoftmax: temperature must be above 0 and finite, got 0\.0"),
        (lambda: GumbelSoftmax(Linear(1.0, 0.0)), r"GumbelSoftmax: temperature must be above 0 .* got 0\.0"),
        (lambda: Rebar(temperature=-1.0), r"Rebar: temperature must be above 0 and finite, got -1\.0"),
        (lambda: Rebar(float("nan")), "Rebar: eta must be finite, got nan"),
        (
            lambda: Inference(FreeBitsPerDimension(), Sample(2), Rebar()),
            "Rebar: needs .*FreeBitsPerDimension is not",
        ),
        (
            lambda: Inference(PIWAE(), Sample(2), GumbelSoftmax()),
            "of PIWAE model and guide raise a part each",
        ),
        (
            lambda: Inference(ELBO(), Enumerate(), GumbelSoftmax()),
            "GumbelSoftmax .* Enumerate; it needs Sample",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.parametrize(
    ("latents", "named"),
    [
        (
            {"v": Normal(2)},
            r"expected a categorical latent, but v is Normal; use gradient Pathwise \(inference=elbo_pathwise\)",
        ),
        (
            {"k": Categorical(2), "n": Neither(2)},
            "latent n is Neither, neither relaxable nor reparameterised",
        ),
    ],
)
def test_latents_that_cannot_be_relaxed_are_refused(
    make_toy: MakeToy, latents: dict[str, Latent], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        GumbelSoftmax().bind(make_toy(latents).model)
    GumbelSoftmax().bind(LinearGaussian())


def test_rebar_on_a_continuous_site_of_a_program_of_ones_own_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Rebar: site z is drawn from Normal, .* every site to be categorical"
    ):
        Inference(ELBO(), Sample(2), Rebar())(LinearGaussian(), GaussianGuide(), gaussian_batch())


@pytest.mark.parametrize("num", [1, 2, 4])
def test_terms_beside_rebar_see_the_router_of_each_datum(
    num: int,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> None:
    """Three data, each with a law of its own, for fewer draws, as many or more."""
    model = make_model(make_backbone("llama"), router=PooledRouter)
    guide, batch = AmortizedGuide(model), make_batch(model.backbone)
    randomise(nn.ModuleDict({"model": model.routers, "guide": guide}), backbone=False)
    values = [
        Inference(ELBO(), Sample(num), gradient, {"t": RouterSupport(floor=0.3)})(
            model, guide, batch, 0.5
        ).terms["t"]
        for gradient in (Rebar(), ScoreFunction())
    ]
    torch.testing.assert_close(*values)
    assert values[0].std() > 1e-3
