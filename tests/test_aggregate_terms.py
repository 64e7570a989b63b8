"""Terms over a minibatch of finite latents against their sums, and what all such terms refuse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.log_quantities import LogQuantities
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
    FLOOR,
    WRITTEN,
    Written,
    gradients,
)
from .inference_fixtures import EXACT, GaussianGuide, LinearGaussian, Tables, Toy, close, gaussian_batch


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


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: AggregateMMD(kernel="linear"), "kernel imq or rbf, got 'linear'"),
        (lambda: AggregateMMD(width=0.0), "width must be above 0"),
        (lambda: RouterSupport(floor=0.0), "floor must be above 0"),
        (lambda: PosteriorEntropy(direction="up"), "direction raise or lower, got 'up'"),
        (lambda: PosteriorEntropy(-1.0), "weight must be finite and not negative"),
    ],
)
def test_settings_without_meaning_are_refused(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
