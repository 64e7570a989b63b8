"""Orders, limits and biases of the bounds, in expectation over every tuple of draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from stratagem.guides import ExactGuide
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import (
    CIWAE,
    ELBO,
    EM,
    IWAE,
    MIWAE,
    PIWAE,
    AutoGen,
    Capacity,
    FDivergence,
    KLThreshold,
    MarginalLikelihood,
    Objective,
    Renyi,
)
from torch import Tensor

from .inference_fixtures import EXACT, Toy

Bound = Callable[[LogQuantities], Tensor]


def table(toy: Toy) -> LogQuantities:
    with torch.no_grad():
        return Enumerate()(toy.model, toy.guide, toy.batch)


def expected(bound: Bound, log: LogQuantities, particles: int) -> Tensor:
    """``(B,)``, the mean over all ways of drawing ``particles`` of the P values, by their probability under q."""
    rows, data = log.log_q.shape
    drawn = torch.cartesian_prod(*[torch.arange(rows)] * particles).reshape(-1, particles).T  # (S, tuples)
    lik, prior, log_q = (v[drawn].flatten(1) for v in (log.log_lik, log.log_prior, log.log_q))
    values = bound(LogQuantities(lik, prior, log_q, enumerated=False))
    return (log_q.sum(0).exp() * values).unflatten(0, (-1, data)).sum(0)


def ordered(*values: Tensor) -> None:
    """Each clearly below the next, for every datum."""
    for lower, upper in itertools.pairwise(values):
        assert (upper - lower > 1e-6).all(), values


def check_order(toy: Toy, multi_sample: type[Objective]) -> None:
    log, t = table(toy), toy.tables()
    most = 8 if len(log.log_q) == 3 else 4
    ordered(
        expected(ELBO().bound, log, 1),
        expected(multi_sample().bound, log, 2),
        expected(multi_sample().bound, log, most),
        t.log_p.detach(),
        Renyi(-1.0).value(log),
    )


def test_elbo_iwae_log_p_and_the_upper_bound_are_in_order(toy: Toy) -> None:
    check_order(toy, IWAE)
    log = table(toy)
    torch.testing.assert_close(expected(IWAE().bound, log, 1), ELBO().bound(log), **EXACT)


class SumOfWeights(IWAE):
    def bound(self, log: LogQuantities) -> Tensor:
        return log.log_w.logsumexp(0)


class MeanOfLogs(IWAE):
    def bound(self, log: LogQuantities) -> Tensor:
        return log.log_w.mean(0)


@pytest.mark.parametrize("wrong", [SumOfWeights, MeanOfLogs])
def test_a_bound_out_of_order_is_found_out(toy: Toy, wrong: type[Objective]) -> None:
    with pytest.raises(AssertionError):
        check_order(toy, wrong)


def test_between_elbo_and_iwae(toy: Toy) -> None:
    """MIWAE has the mean of an IWAE of S/M draws, CIWAE is a line, PIWAE has the one and the other."""
    log = table(toy)
    elbo, two, four = ELBO().bound(log), *(expected(IWAE().bound, log, s) for s in (2, 4))
    for bound, mean in (
        (MIWAE(2).bound, two),
        (MIWAE(4).bound, elbo),
        (MIWAE(1).bound, four),
        (PIWAE(2).bound, four),
        (PIWAE(2).guide_bound, two),
        (CIWAE(0.3).bound, 0.3 * elbo + 0.7 * four),
    ):
        torch.testing.assert_close(expected(bound, log, 4), mean, **EXACT)


@pytest.mark.parametrize("objective", [ELBO(), ELBO(0.3), AutoGen(2.0)], ids=["elbo", "beta", "autogen"])
def test_sampling_is_unbiased_where_it_says_so(toy: Toy, objective: Objective) -> None:
    log = table(toy)
    for particles in (1, 3):
        torch.testing.assert_close(expected(objective.bound, log, particles), objective.bound(log), **EXACT)


def test_the_renyi_bound_falls_in_alpha(toy: Toy) -> None:
    log, t = table(toy), toy.tables()
    values = [Renyi(alpha).value(log) for alpha in (5.0, 2.0, 1.1, 0.9, 0.5, 0.0, -0.5, -1.0, -4.0)]
    ordered(*values[:3], ELBO().bound(log), *values[3:])
    torch.testing.assert_close(values[5], t.log_p.detach(), **EXACT)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_renyi_bound_tends_to_the_elbo(toy: Toy, side: float) -> None:
    """From both sides, along the line of slope ``-Var_q(log w) / 2``."""
    log = table(toy)
    elbo = ELBO().bound(log)
    variance = log.expect_q((log.log_w - elbo) ** 2)
    far, near = (
        (Renyi(1 + side * h).value(log) - elbo + side * h * variance / 2).abs() for h in (1e-2, 1e-3)
    )
    assert (near < 1e-4).all()
    assert (near < far / 50).all()  # of second order: a hundredth


def test_the_gap_is_the_divergence(toy: Toy) -> None:
    log, t = table(toy), toy.tables()
    q, p = t.log_q.exp().detach(), t.log_posterior.exp().detach()
    for bound, divergence in (
        (ELBO().bound, (q * (q / p).log()).sum(0)),
        (FDivergence("kl").bound, (p * (p / q).log()).sum(0)),
        (Renyi(2.5).value, (q**2.5 * p**-1.5).sum(0).log() / 1.5),
        (Renyi(-1.0).value, -0.5 * (1 + ((p - q) ** 2 / q).sum(0)).log()),
    ):
        torch.testing.assert_close(t.log_p.detach() - bound(log), divergence, **EXACT)


def test_the_divergences_are_in_order(toy: Toy) -> None:
    """Bounded by their largest values; Hellinger below total variation below Pinsker's bound."""
    log, log_p = table(toy), toy.tables().log_p.detach()
    shannon, hellinger, variation, kl, chi = (
        log_p - FDivergence(f).bound(log)
        for f in ("jensen_shannon", "hellinger", "total_variation", "kl", "chi_square")
    )
    ordered(torch.zeros(3), hellinger, variation, (2 * hellinger).sqrt())
    ordered(variation, (kl / 2).sqrt(), (chi.log1p() / 2).sqrt())
    ordered(shannon, math.log(2) * variation)


def test_reverse_kl_is_the_elbo(toy: Toy) -> None:
    log = table(toy)
    torch.testing.assert_close(FDivergence("reverse_kl").bound(log), ELBO().bound(log), **EXACT)


TIGHT: dict[str, Objective] = {
    **{type(o).__name__: o for o in (ELBO(), MarginalLikelihood(), EM(), IWAE(), MIWAE(), PIWAE(), CIWAE())},
    **{f"renyi {alpha}": Renyi(alpha) for alpha in (-2.0, 0.0, 0.5, 3.0)},
    **{f: FDivergence(f) for f in ("jensen_shannon", "hellinger", "total_variation", "kl", "chi_square")},
}


def check_tight(toy: Toy, name: str, expectation: Enumerate | Sample) -> None:
    objective, guide, log_p = TIGHT[name], ExactGuide(toy.model), toy.tables().log_p.detach()
    log = expectation(toy.model, guide, toy.batch)
    torch.testing.assert_close(log.log_w, log_p.expand_as(log.log_w), **EXACT)
    torch.testing.assert_close(objective.bound(log), log_p, **EXACT)
    up = -1 if isinstance(objective, Renyi) and objective.alpha < 0 else 1
    torch.testing.assert_close(objective.guide_bound(log), up * log_p, **EXACT)


@pytest.mark.parametrize("name", TIGHT)
def test_the_exact_posterior_makes_it_tight(toy: Toy, name: str) -> None:
    for expectation in (Enumerate(), Sample(4)):
        if isinstance(expectation, TIGHT[name].expectations):
            check_tight(toy, name, expectation)


def test_what_is_not_tight_is_found_out(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wrong in (("a", AutoGen()), ("b", KLThreshold(9.0)), ("c", Capacity()), ("d", SumOfWeights())):
        monkeypatch.setitem(TIGHT, name, wrong)
        with pytest.raises(AssertionError):
            check_tight(toy, name, Sample(4))


def binomial(bound: Bound, log: LogQuantities, particles: int) -> float:
    """The mean over S draws of one of two values, by their number: exact for any S."""
    counts = torch.arange(particles + 1)
    first = torch.arange(particles)[:, None] < counts  # (S, S + 1)
    lik, prior, log_q = (
        torch.where(first, v[0, 0], v[1, 0]) for v in (log.log_lik, log.log_prior, log.log_q)
    )
    s = torch.tensor(float(particles), dtype=torch.float64)
    ways = (s + 1).lgamma() - (counts + 1.0).double().lgamma() - (s - counts + 1).lgamma()
    values = bound(LogQuantities(lik, prior, log_q, enumerated=False))
    return float(((ways + log_q.sum(0)).exp() * values).sum())


def coin() -> LogQuantities:
    lik, prior, q = ([-1.0, -2.0], [0.4, 0.6], [0.55, 0.45])
    column = torch.tensor([lik, prior, q], dtype=torch.float64)[..., None]
    return LogQuantities(column[0], column[1].log(), column[2].log(), enumerated=True)


def check_bias(bound: Bound, exact: float, limit: float, power: float) -> None:
    """The law: ``S^power`` times the bias tends to ``limit``, its error halved at least as S is four times as large."""
    log = coin()
    scaled = [s**power * (binomial(bound, log, s) - exact) for s in (64, 256, 1024)]
    errors = [abs(v / limit - 1) for v in scaled]
    assert errors[2] < 0.02
    assert errors[2] < errors[1] / 1.9 < errors[0] / 3.6


def renyi_limit(alpha: float) -> float:
    log = coin()
    power = ((1 - alpha) * log.log_w).exp()
    mean = log.expect_q(power)
    return float(-(log.expect_q(power**2) / mean**2 - 1) / (2 * (1 - alpha)))


KL = float(coin().expect_q(coin().log_q - coin().log_prior))
SPREAD = float(coin().expect_q((coin().log_q - coin().log_prior - KL) ** 2)) ** 0.5
LIK = float(coin().expect_q(coin().log_lik))


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 2.5])
def test_the_sampled_renyi_bound_is_biased_at_its_rate(alpha: float) -> None:
    exact = float(Renyi(alpha).value(coin()))
    check_bias(Renyi(alpha).value, exact, renyi_limit(alpha), 1.0)
    assert (renyi_limit(alpha) < 0) == (alpha < 1)
    with pytest.raises(AssertionError):
        check_bias(Renyi(alpha + 0.1).value, exact, renyi_limit(alpha), 1.0)


def test_the_sampled_iwae_is_biased_at_its_rate() -> None:
    check_bias(IWAE().bound, float(coin().log_marginal), renyi_limit(0.0), 1.0)
    with pytest.raises(AssertionError):
        check_bias(CIWAE(0.1).bound, float(coin().log_marginal), renyi_limit(0.0), 1.0)


def test_a_penalty_at_its_kink_is_biased_at_the_rate_of_a_root() -> None:
    deviation = SPREAD * math.sqrt(2 / math.pi)
    check_bias(Capacity(2.0, KL).bound, LIK, -2 * deviation, 0.5)
    check_bias(KLThreshold(KL).bound, LIK - KL, -deviation / 2, 0.5)
    for objective in (Capacity(2.0, KL + 1), KLThreshold(KL + 1)):
        assert binomial(objective.bound, coin(), 256) == pytest.approx(
            float(objective.bound(coin())), abs=1e-9
        )
