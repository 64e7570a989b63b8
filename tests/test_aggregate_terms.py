"""Terms on the laws of guide and router over a minibatch, against their formulas written out one value at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stratagem.inference.aggregate import aggregate_kl
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact, Held
from stratagem.inference.inference import Inference
from stratagem.inference.laws import Law, Values
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, InfoVAE
from stratagem.inference.terms import (
    AggregateKL,
    AggregateMMD,
    MinibatchInformation,
    PosteriorEntropy,
    RouterSupport,
    RouterToPrior,
    Term,
)
from stratagem.models import Batch
from torch import Tensor, nn

from .aggregate_fixtures import (
    GRID,
    density,
    divergence,
    gaussian_log,
    gaussian_parameters,
    gradients,
    holds_in_expectation,
    integral,
    mixture,
)
from .inference_fixtures import EXACT, GaussianGuide, LinearGaussian, Tables, Toy, close, gaussian_batch

FLOOR = 0.23
"""Of a joint value, above some of either toy's router and below others."""

Written = Callable[[Tensor, Tensor], Tensor]


def summed(share: Callable[[Tensor, Tensor, int, int], Tensor]) -> Written:
    """``(B,)`` of a formula for value k of datum b, from ``q`` and ``p`` ``(P, B)``."""

    def written(log_q: Tensor, log_prior: Tensor) -> Tensor:
        q, p = log_q.exp(), log_prior.exp()
        size, data = q.shape
        return torch.stack([sum(share(q, p, k, b) for k in range(size)) for b in range(data)])

    return written


def others(q: Tensor, p: Tensor, k: int, b: int) -> Tensor:
    """Datum b's part of the products of different data in ``(mean q - mean p)^2`` at k."""
    gaps = [q[k, j] - p[k, j] for j in range(q.shape[1]) if j != b]
    return (q[k, b] - p[k, b]) * sum(gaps) / len(gaps)


WRITTEN: dict[str, tuple[Term, Written]] = {
    "information": (
        MinibatchInformation(),
        summed(lambda q, _, k, b: q[k, b] * (q[k, b].log() - q[k].mean().log())),
    ),
    "aggregate kl": (
        AggregateKL(),
        summed(lambda q, p, k, b: q[k, b] * (q[k].mean().log() - p[k].mean().log())),
    ),
    "aggregate mmd": (AggregateMMD(), summed(others)),
    "router to prior": (
        RouterToPrior(),
        summed(lambda _, p, k, b: p[k, b] * (p[k].mean().log() + math.log(len(p)))),
    ),
    "entropy": (PosteriorEntropy(), summed(lambda q, _, k, b: -q[k, b] * q[k, b].log())),
    "router support": (
        RouterSupport(floor=FLOOR),
        summed(lambda q, p, k, b: q[k, b].detach() * max(math.log(FLOOR) - p[k, b].log(), 0 * p[k, b])),
    ),
}


def is_the_formula(
    toy: Toy,
    log: LogQuantities,
    tables: Tables,
    value: Callable[[LogQuantities], Tensor],
    written: Written,
) -> None:
    found, expected = value(log), written(tables.log_q, tables.log_prior)
    torch.testing.assert_close(found, expected, **EXACT)
    truth = of_all(toy, expected)
    assert any(g.abs().max() > 1e-4 for g in truth.values())
    close(of_all(toy, found), truth)


def of_all(toy: Toy, value: Tensor) -> dict[str, Tensor]:
    return dict(zip(toy.parameters, gradients(value.sum(), list(toy.parameters.values())), strict=True))


@pytest.mark.parametrize("expectation", [Enumerate(), Sample(2)], ids=["enumerate", "sample"])
def test_terms_of_finite_latents_are_their_sums_whatever_is_drawn(
    toy: Toy, expectation: Enumerate | Sample
) -> None:
    log, tables = expectation(toy.model, toy.guide, toy.batch), toy.tables()
    for term, written in WRITTEN.values():
        is_the_formula(toy, log, tables, term.value, written)


def mean_law(log_p: Tensor) -> Tensor:
    return log_p.logsumexp(1, keepdim=True) - math.log(log_p.shape[1])


def with_diagonal(log: LogQuantities) -> Tensor:
    gap = log.log_q.exp() - log.log_prior.exp()
    return (gap.mT @ gap).mean(1)


MUTANTS: dict[str, tuple[str, Callable[[LogQuantities], Tensor]]] = {
    "information's weights held": (
        "information",
        lambda log: log.hold_guide().log_q.exp().mul(log.log_q - mean_law(log.log_q)).sum(0),
    ),
    "information lowered": ("information", lambda log: -MinibatchInformation().value(log)),
    "mixture without the mean": (
        "information",
        lambda log: log.expect_q(log.log_q - log.log_q.logsumexp(1, keepdim=True)),
    ),
    "each router's own law": ("aggregate kl", lambda log: log.expect_q(mean_law(log.log_q) - log.log_prior)),
    "router held fixed": ("aggregate kl", lambda log: AggregateKL().value(log.hold_model())),
    "own pairs": ("aggregate mmd", with_diagonal),
    "under the posterior": (
        "router to prior",
        lambda log: log.expect_q(mean_law(log.log_prior) + math.log(len(log.log_prior))),
    ),
    "entropy's sign": ("entropy", lambda log: log.expect_q(log.log_q)),
    "entropy's weights held": ("entropy", lambda log: -(log.log_q.exp().detach() * log.log_q).sum(0)),
    "guide pulled": ("router support", lambda log: log.expect_q((math.log(FLOOR) - log.log_prior).relu())),
    "no floor": ("router support", lambda log: log.hold_guide().expect_q(math.log(FLOOR) - log.log_prior)),
}


def test_a_wrong_term_is_told_from_its_formula(toy: Toy) -> None:
    log, tables = Enumerate()(toy.model, toy.guide, toy.batch), toy.tables()
    for name, (of, value) in MUTANTS.items():
        try:
            is_the_formula(toy, log, tables, value, WRITTEN[of][1])
        except AssertionError:
            continue
        pytest.fail(f"{name}: passes")


def finite(log_q: Tensor, log_prior: Tensor | None = None) -> LogQuantities:
    prior = torch.full_like(log_q, -math.log(len(log_q))) if log_prior is None else log_prior
    return LogQuantities(torch.zeros_like(log_q), prior, log_q, True)


def random_laws(seed: int, size: int, data: int) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(size, data, generator=numbers, dtype=torch.float64)).log_softmax(0)


def test_the_information_is_nothing_of_one_datum_or_of_equal_posteriors_and_log_b_of_disjoint_ones() -> None:
    for same in (random_laws(0, 5, 1), random_laws(0, 5, 1).expand(5, 4)):
        value = MinibatchInformation().value(finite(same))
        torch.testing.assert_close(value, torch.zeros_like(value), **EXACT)
    disjoint = torch.eye(4, dtype=torch.float64).log().requires_grad_()
    value = MinibatchInformation().value(finite(disjoint))
    torch.testing.assert_close(value, torch.full_like(value, math.log(4)), **EXACT)
    assert torch.autograd.grad(value.sum(), disjoint)[0].isfinite().all()
    for term in (AggregateKL(), AggregateMMD(), RouterToPrior()):
        same = random_laws(0, 5, 1)
        assert term.value(finite(same, same)).isfinite().all()
    assert AggregateMMD().value(finite(random_laws(0, 5, 1))) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 6))
def test_the_kl_to_the_router_is_the_information_and_the_aggregates_kl(
    seed: int, size: int, data: int
) -> None:
    """Where the router does not read x; both parts are within their bounds."""
    log = finite(random_laws(seed, size, data), random_laws(seed + 1, size, 1).expand(size, data))
    information, aggregate = (t.value(log).mean() for t in (MinibatchInformation(), AggregateKL()))
    torch.testing.assert_close(
        information + aggregate, log.expect_q(log.log_q - log.log_prior).mean(), **EXACT
    )
    assert -1e-12 < information < min(math.log(data), math.log(size)) + 1e-12
    assert aggregate > -1e-12


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_batches_put_the_information_too_low_and_divergences_too_high_but_for_the_mmd(seed: int) -> None:
    log_q, log_prior = random_laws(seed, 3, 5), random_laws(seed + 1, 3, 5)
    pairs = [list(pair) for pair in itertools.combinations(range(5), 2)]

    def of_batches(term: Term) -> tuple[Tensor, Tensor]:
        batches = [term.value(finite(log_q[:, pair], log_prior[:, pair])).mean() for pair in pairs]
        return torch.stack(batches).mean(), term.value(finite(log_q, log_prior)).mean()

    low, information = of_batches(MinibatchInformation())
    assert low < information
    for term in (AggregateKL(), RouterToPrior()):
        high, divergence = of_batches(term)
        assert high > divergence
    torch.testing.assert_close(*of_batches(AggregateMMD()), **EXACT)


def test_the_order_of_the_batch_changes_nothing() -> None:
    order = torch.tensor([2, 0, 3, 1])
    log_q, log_prior = random_laws(0, 3, 4), random_laws(1, 3, 4)
    for term, _ in WRITTEN.values():
        value = term.value(finite(log_q, log_prior))
        torch.testing.assert_close(
            term.value(finite(log_q[:, order], log_prior[:, order])), value[order], **EXACT
        )


def test_values_of_continuous_latents_are_scored_under_every_law() -> None:
    parameters = gaussian_parameters()
    values = Values.under(Law.POSTERIOR, gaussian_log(parameters, 2))
    assert values.z is not None
    z = values.z["z"]
    for law, (mean, log_scale) in zip(Law, (parameters[:2], parameters[2:]), strict=True):
        crossed = values.cross(law)
        assert crossed.shape == (2, 3, 3)
        for s, b, j in itertools.product(range(2), range(3), range(3)):
            log_p = sum(density(z[s, b, d], mean[j, d], log_scale[j, d]).log() for d in range(2))
            torch.testing.assert_close(crossed[s, b, j], log_p, **EXACT)
        torch.testing.assert_close(values.own(law), crossed.diagonal(dim1=1, dim2=2), **EXACT)


def by_quadrature(parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    q_mean, q_log_scale, p_mean, p_log_scale = parameters
    q, p = mixture(q_mean, q_log_scale), mixture(p_mean, p_log_scale)
    each = torch.stack([divergence(density(GRID, *law), q) for law in zip(q_mean, q_log_scale, strict=True)])
    zero = torch.zeros(1, 1, dtype=torch.float64)
    held = density(GRID, q_mean.detach(), q_log_scale.detach())
    shortfall = (math.log(FLOOR) - density(GRID, p_mean, p_log_scale).log()).relu()
    return {
        "information": each.mean(),
        "aggregate kl": divergence(q, p),
        "router to prior": divergence(p, mixture(zero, zero)),
        "router support": integral(held * shortfall).mean(),
    }


@pytest.mark.parametrize("name", ["information", "aggregate kl", "router to prior", "router support"])
def test_draws_have_the_integral_in_value_and_gradient(name: str) -> None:
    parameters = gaussian_parameters(data=2, dimensions=1)
    truth = by_quadrature(parameters)[name]
    term = WRITTEN[name][0]
    holds_in_expectation(lambda: term.value(gaussian_log(parameters, 400)).mean(), truth, parameters)


def detached_draws(log: LogQuantities) -> Tensor:
    values = Values.under(Law.POSTERIOR, log, fixed=True)
    return values.expect(values.mean_law(Law.POSTERIOR) - values.mean_law(Law.PRIOR))


def test_a_gradient_that_leaves_the_draws_out_is_told() -> None:
    parameters = gaussian_parameters(data=2, dimensions=1)
    truth = by_quadrature(parameters)["aggregate kl"]
    with pytest.raises(AssertionError, match="tensor"):
        holds_in_expectation(lambda: detached_draws(gaussian_log(parameters, 400)).mean(), truth, parameters)


def test_an_objective_that_holds_the_draws_does_not_matter() -> None:
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    mean = (guide.a * batch.features["y"] + guide.b)[:, None]
    zero = torch.zeros(1, 1, dtype=torch.float64)
    truth = divergence(mixture(mean, guide.r.expand(3, 1)), mixture(zero, zero))
    inference = Inference(ELBO(), Sample(400), Held(), {"aggregate": AggregateKL()})

    def draw() -> Tensor:
        loss = inference(model, guide, batch)
        return loss.surrogate + loss.bound.mean()

    holds_in_expectation(draw, truth, list(guide.parameters()))


def gaussian_kernel(mean: Tensor, variance: Tensor, width: float) -> Tensor:
    """``E exp(-|u|^2 / width)`` of ``u ~ N(mean, variance)``, a product over the last dimension."""
    spread = 1 + 2 * variance / width
    return ((-(mean**2) / (width * spread)).exp() * spread**-0.5).prod(-1)


def expected_mmd(parameters: Sequence[Tensor], width: float) -> Tensor:
    q_mean, q_log_scale, p_mean, p_log_scale = parameters
    laws = [(q_mean, q_log_scale, 1.0), (p_mean, p_log_scale, -1.0)]
    pairs: Tensor | float = 0.0
    for (m, s, sign), (n, t, other) in itertools.product(laws, repeat=2):
        apart, variance = m[:, None] - n, (2 * s).exp()[:, None] + (2 * t).exp()
        pairs = pairs + sign * other * gaussian_kernel(apart, variance, width)
    assert isinstance(pairs, Tensor)
    return (pairs.sum() - pairs.diagonal().sum()) / (len(q_mean) * (len(q_mean) - 1))


def test_the_mmd_has_its_closed_form_in_value_and_gradient() -> None:
    parameters, term = gaussian_parameters(), AggregateMMD(kernel="rbf", width=3.0)
    truth = expected_mmd(parameters, 3.0)
    holds_in_expectation(lambda: term.value(gaussian_log(parameters, 30)).mean(), truth, parameters)
    default = AggregateMMD(kernel="rbf")
    pyro.set_rng_seed(3)
    value = default.value(gaussian_log(parameters, 5))
    pyro.set_rng_seed(3)
    torch.testing.assert_close(
        value, AggregateMMD(kernel="rbf", width=4.0).value(gaussian_log(parameters, 5))
    )


def test_the_mmd_of_equal_laws_is_nothing_in_the_mean() -> None:
    law = [p[:1].detach().expand(3, 2).clone().requires_grad_() for p in gaussian_parameters()[:2]]
    for kernel in ("imq", "rbf"):
        term = AggregateMMD(kernel=kernel)
        drawn = torch.stack([term.value(gaussian_log([*law, *law], 20)).mean().detach() for _ in range(100)])
        assert drawn.mean().abs() < 4 * drawn.std() / 10
        assert drawn.std() < 0.1, "too noisy to say anything"
        assert (drawn < 0).any(), "unbiased, so negative at times"


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_the_mmd_of_given_draws_is_the_sum_over_pairs_of_different_data(kernel: str) -> None:
    log, term = gaussian_log(gaussian_parameters(), 2), AggregateMMD(kernel=kernel, width=1.5)

    def k(u: Tensor, v: Tensor) -> Tensor:
        distance = ((u - v) ** 2).sum()
        return 1.5 / (1.5 + distance) if kernel == "imq" else torch.exp(-distance / 1.5)

    pyro.set_rng_seed(7)
    z, v = (Values.under(law, log).z for law in Law)
    pyro.set_rng_seed(7)
    value = term.value(log)
    assert z is not None
    assert v is not None
    a, c = z["z"], v["z"]
    for b in range(3):
        by_hand = sum(
            k(a[s, b], a[t, j]) + k(c[s, b], c[t, j]) - k(a[s, b], c[t, j]) - k(c[s, b], a[t, j])
            for j, s, t in itertools.product(range(3), range(2), range(2))
            if j != b
        )
        torch.testing.assert_close(value[b], by_hand / 8, **EXACT)


def test_the_entropy_of_gaussians_and_its_direction() -> None:
    parameters = gaussian_parameters()
    value = PosteriorEntropy().value(gaussian_log(parameters, 2))
    expected = (parameters[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(1)
    torch.testing.assert_close(value, expected, **EXACT)
    assert PosteriorEntropy(0.5).signed_weight(1.0) == 0.5
    assert PosteriorEntropy(0.5, direction="lower").signed_weight(1.0) == -0.5
    for term in (AggregateKL, AggregateMMD, RouterToPrior, RouterSupport):
        assert term(0.5).signed_weight(1.0) == -0.5
    assert MinibatchInformation(0.5).signed_weight(1.0) == 0.5


class TwoLatents(nn.Module):
    """A program of ``a`` and ``b``, where b may depend on a; with a response to condition."""

    def __init__(self, depends: bool, kind: str, observe: bool) -> None:
        super().__init__()
        self.depends, self.kind, self.observe = depends, kind, observe
        self.logits = nn.Parameter(torch.randn(2, 3, dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            if self.kind == "categorical":
                a = pyro.sample("a", dist.Categorical(logits=self.logits[:, :2].sum(0).expand(3, 2)))
                logits = self.logits[a] if self.depends else self.logits[0] * y[:, None]
                pyro.sample("b", dist.Categorical(logits=logits))
            else:
                a = pyro.sample("a", dist.Normal(y * self.logits[0, 0], 1.0))
                law = dist.Normal(a if self.depends else y, 1.0)
                pyro.sample("b", law if self.kind == "normal" else dist.Poisson(law.loc.exp()))
            if self.observe:
                pyro.sample("y", dist.Normal(torch.zeros_like(y), 1.0), obs=y)


def two(kind: str, depends: bool, router_depends: bool = False) -> tuple[TwoLatents, TwoLatents]:
    return TwoLatents(router_depends, kind, True), TwoLatents(depends, kind, False)


@pytest.mark.parametrize("kind", ["categorical", "normal"])
def test_laws_given_other_draws_are_refused_where_they_are_drawn(kind: str) -> None:
    batch = gaussian_batch()
    log = Sample(2)(*two(kind, depends=False), batch)
    for term, _ in WRITTEN.values():
        assert term.value(log).isfinite().all()
    depends = Sample(2)(*two(kind, depends=True), batch)
    with pytest.raises(ValueError, match=r"site b: q\(z\|x,y\) differs .* Enumerate"):
        MinibatchInformation().value(depends)
    with pytest.raises(ValueError, match=r"site a: with one particle .* num_particles=2"):
        MinibatchInformation().value(Sample(1)(*two(kind, depends=False), batch))
    router = Sample(2)(*two(kind, depends=False, router_depends=True), batch)
    assert MinibatchInformation().value(router).isfinite().all()
    with pytest.raises(ValueError, match=r"site b: p\(z\|x\) differs .* Enumerate"):
        AggregateKL().value(router)
    if kind == "categorical":
        assert AggregateKL().value(Enumerate()(*two(kind, depends=True), batch)).isfinite().all()


def test_latents_of_no_common_kind_are_refused() -> None:
    log = Sample(2)(*two("poisson", depends=False), gaussian_batch())
    with pytest.raises(ValueError, match=r"site b: q\(z\|x,y\) is Poisson, expected .* reparameterised"):
        AggregateKL().value(log)


def test_particles_one_by_one_are_no_different() -> None:
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    values = []
    for one_by_one in (False, True):
        log = Sample(4, one_by_one)(model, guide, batch)
        pyro.set_rng_seed(5)
        values.append(torch.stack([term.value(log) for term, _ in WRITTEN.values()]))
    torch.testing.assert_close(*values, **EXACT)


INFO = {"alpha": 0.25, "lambda_": 1.5}


def info_vae(log_joint: Tensor, log_lik: Tensor, log_q: Tensor, written: Written) -> Tensor:
    log_prior = log_joint - log_lik
    each = (log_q.exp() * (log_lik - 0.75 * (log_q - log_prior))).sum(0)
    return each - 0.75 * written(log_q, log_prior)


@pytest.mark.parametrize("divergence", ["kl", "mmd"])
def test_the_info_vae_is_its_formula(toy: Toy, divergence: str) -> None:
    written = WRITTEN[f"aggregate {divergence}"][1]
    t = toy.tables()
    expected = info_vae(t.log_prior + t.log_lik, t.log_lik, t.log_q, written)
    truth = toy.gradients(-expected.mean())

    def holds(objective: InfoVAE) -> None:
        loss = Inference(objective, Enumerate(), Exact())(toy.model, toy.guide, toy.batch)
        torch.testing.assert_close(loss.bound, expected.detach(), **EXACT)
        close(toy.gradients(loss.surrogate), truth)

    holds(InfoVAE(**INFO, divergence=divergence))
    for wrong in ({"alpha": 0.5, "lambda_": 1.25}, {"alpha": 0.25, "lambda_": 1.4}):
        with pytest.raises(AssertionError):
            holds(InfoVAE(**wrong, divergence=divergence))
    with torch.no_grad():
        loss = Inference(InfoVAE(**INFO, divergence=divergence), Sample(2), Held())(
            toy.model, toy.guide, toy.batch
        )
    assert loss.bound.isfinite().all()


def test_the_info_vae_goes_from_the_elbo_to_free_posteriors(toy: Toy) -> None:
    log = Enumerate()(toy.model, toy.guide, toy.batch)
    torch.testing.assert_close(InfoVAE(0.0, 1.0, "kl").bound(log), ELBO().bound(log), **EXACT)
    free = InfoVAE(1.0, 2.0, "kl").bound(log)
    torch.testing.assert_close(free, log.expect_q(log.log_lik) - 2 * aggregate_kl(log), **EXACT)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: AggregateMMD(kernel="linear"), "kernel imq or rbf, got 'linear'"),
        (lambda: AggregateMMD(width=0.0), "width must be above 0"),
        (lambda: RouterSupport(floor=0.0), "floor must be above 0"),
        (lambda: PosteriorEntropy(direction="up"), "direction raise or lower, got 'up'"),
        (lambda: PosteriorEntropy(-1.0), "weight must be finite and not negative"),
        (lambda: InfoVAE(alpha=1.5), "alpha <= 1"),
        (lambda: InfoVAE(alpha=0.0, lambda_=0.5), "lambda_ >= 1 - alpha"),
        (lambda: InfoVAE(alpha=float("nan")), "alpha <= 1"),
        (lambda: InfoVAE(divergence="js"), "divergence kl or mmd, got 'js'"),
    ],
)
def test_settings_without_meaning_are_refused(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
