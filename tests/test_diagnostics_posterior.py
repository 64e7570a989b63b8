"""Dimensions, usage and importance weights on laws that are written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from stratagem.inference.diagnosis import Subject
from stratagem.inference.diagnosis.diagnostics.dimensions import dimensions, divergences
from stratagem.inference.diagnosis.diagnostics.importance import effective_share, importance, pareto_k
from stratagem.inference.diagnosis.diagnostics.usage import usage
from stratagem.inference.evaluation import Posteriors
from stratagem.inference.evaluation.use import spread_of_means, use
from stratagem.inference.log_quantities import Site as RunSite
from stratagem.models import Batch, Categorical, Normal
from torch import Tensor, nn

from .finite_law_fixtures import Bayes, Laws, Program, Site, Speak, subject_of


def word_of(*sites: str, values: int = 3) -> Speak:
    """A word for each of these latents, its value or any other by chance."""

    def speak(program: Program, _: Batch, z: Mapping[str, Tensor]) -> Laws:
        shape = torch.broadcast_shapes(*(z[name].shape for name in sites))
        rows = [0.8 * nn.functional.one_hot(z[name].expand(shape), values) + 0.2 / values for name in sites]
        return program.tokens(torch.stack(rows, -2))[None], torch.zeros(1, *shape)

    return speak


def child(_: Program, __: Batch, z: Mapping[str, Tensor]) -> Tensor:
    return 2.0 * nn.functional.one_hot(z["a"], 3).float()


def family(read: str) -> Subject:
    """A latent and its child, of which the response tells one, and a third beside them."""
    sites = {"a": Site(Categorical(2)), "b": Site(Categorical(3), child), "c": Site(Categorical(2))}
    return subject_of(Program(sites, word_of(read)), num=120)


@pytest.mark.parametrize("read", ["a", "b"])
def test_the_divergences_of_latents_are_a_chain_and_add_up(read: str) -> None:
    subject = family(read)
    found = dimensions(subject).figures
    assert set(found) == {f"dimension/kl/{name}{end}" for name in "abc" for end in ("", "_se")}
    *parts, third = [found[f"dimension/kl/{name}"] for name in "abc"]
    assert third == pytest.approx(0, abs=1e-6)
    assert sum(parts) == pytest.approx(use(subject.seen)["use/kl_router"], abs=1e-6)
    assert min(parts) == pytest.approx(0, abs=1e-6) if read == "a" else min(parts) > 0.05
    seen = subject.seen
    assert seen.amortized is not None
    assert seen.router is not None
    q, p = (law.reshape(-1, 6, 2).sum(1) for law in (seen.amortized, seen.router))
    assert parts[0] == pytest.approx(float((q * (q / p).log()).sum(1).mean()), abs=1e-6)


class Shifted(nn.Module):
    """``N(m, s^2)`` for each coordinate, and the uniform law of strategies."""

    def __init__(self, mean: list[float], deviation: list[float], K: int = 0) -> None:
        super().__init__()
        self.law = dist.Normal(torch.tensor(mean), torch.tensor(deviation)).to_event(1)
        self.K = K

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", self.law.expand((len(batch),)))
            if self.K:
                pyro.sample("c", dist.Categorical(torch.ones(len(batch), self.K) / self.K))


def coin(program: Program, _: Batch, z: Mapping[str, Tensor]) -> Laws:
    p = (2 * z["z"][..., 0]).sigmoid()
    law = torch.stack([p, 1 - p], -1)[..., None, :]
    return program.tokens(law)[None], torch.zeros(1, *p.shape)


def by_hand(mean: float, deviation: float) -> float:
    return 0.5 * (deviation**2 + mean**2 - 1) - math.log(deviation)


def test_the_divergence_of_each_coordinate_is_that_of_its_law() -> None:
    program = Program({"z": Site(Normal(3))}, coin)
    means, deviations = [0.0, 1.0, -0.5], [1.0, 0.5, 2.0]
    found = dimensions(subject_of(program, Shifted(means, deviations), 500))
    expected = [by_hand(*pair) for pair in zip(means, deviations, strict=True)]
    assert found.curves["dimension/kl/z"].tolist() == pytest.approx(expected, abs=1e-5)
    assert [found.figures[f"dimension/kl/z/{d}"] for d in range(3)] == pytest.approx(expected, abs=1e-5)
    assert found.figures["dimension/kl/z"] == pytest.approx(sum(expected), abs=1e-5)
    assert found.figures["dimension/kl/z_se"] == pytest.approx(0, abs=1e-5)
    assert found.figures["dimension/active/z"] == 0, "their means are the same on all data"


def test_of_mixed_latents_the_strategies_have_a_divergence_and_no_coordinates() -> None:
    program = Program({"z": Site(Normal(1)), "c": Site(Categorical(2))}, coin)
    found = dimensions(subject_of(program, Shifted([1.0], [1.0], K=2), 20))
    assert found.figures["dimension/kl/z"] == pytest.approx(0.5, abs=1e-5)
    assert found.figures["dimension/kl/c"] == pytest.approx(0, abs=1e-6)
    assert set(found.curves) == {"dimension/kl/z"}
    assert "dimension/active/z" in found.figures
    assert "dimension/active/c" not in found.figures


def site(posterior: dist.TorchDistribution, prior: dist.TorchDistribution, z: Tensor) -> RunSite:
    return RunSite(z, prior, posterior, prior.log_prob(z), posterior.log_prob(z))


def test_laws_without_a_closed_form_are_compared_on_draws_and_entangled_ones_not_by_coordinate() -> None:
    shape = torch.Size((4000, 2))
    torch.manual_seed(0)
    q = dist.Normal(torch.tensor([0.0, 1.0]), 1.0).to_event(1).expand(shape)
    cauchy = dist.Cauchy(torch.zeros(2), 1.0).to_event(1).expand(shape)
    found = divergences(site(q, cauchy, q.sample()), shape)
    assert found is not None
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    for d, mean in enumerate((0.0, 1.0)):
        law = dist.Normal(mean, 1.0).log_prob(grid)
        expected = torch.trapezoid(law.exp() * (law - dist.Cauchy(0.0, 1.0).log_prob(grid)), grid)
        assert found[:, d].tolist() == pytest.approx([float(expected)] * 2, abs=0.05)
    whole = dist.MultivariateNormal(torch.zeros(2), torch.eye(2)).expand(shape)
    assert divergences(site(whole, q, q.sample()), shape) is None
    plain = dist.Normal(0.0, 1.0).expand(shape)
    scalar = divergences(site(plain, dist.Normal(1.0, 1.0).expand(shape), plain.sample()), shape)
    assert scalar is not None
    assert scalar.tolist() == [[0.5], [0.5]]


def test_units_without_a_mean_of_their_own_are_not_active_however_few_the_draws() -> None:
    """64 draws of a unit law have means that vary by 1/64, which is above the bound."""
    torch.manual_seed(0)
    collapsed, active = torch.randn(64, 2000, 3), torch.randn(64, 2000, 1) + 0.3 * torch.randn(2000, 1)
    draws = torch.cat([collapsed, active], -1)
    assert (draws.mean(0).var(0) > 0.01).all()
    found = spread_of_means(draws)
    assert found.tolist() == pytest.approx([0, 0, 0, 0.09], abs=0.01)
    assert (found > 0.01).tolist() == [False, False, False, True]


def of_posterior(posterior: Tensor, subject: Subject) -> Subject:
    seen = replace(subject.seen, posterior=posterior)
    return replace(subject, seen=seen)


@pytest.fixture(scope="module")
def healthy() -> Subject:
    return subject_of(Program({"z": Site(Categorical(4))}, word_of("z", values=4)), num=60)


def test_usage_by_hand(healthy: Subject) -> None:
    one_hot = torch.eye(4)[[0] * 30 + [1] * 20 + [2] * 9 + [3]]
    found = usage(of_posterior(one_hot, healthy))
    shares = [30 / 60, 20 / 60, 9 / 60, 1 / 60]
    assert [found.figures[f"usage/share/{k}"] for k in range(4)] == pytest.approx(shares)
    assert found.curves["usage/share"].tolist() == pytest.approx(shares)
    assert found.figures["usage/share/0_se"] == pytest.approx(math.sqrt(0.25 / 59))
    assert found.figures["usage/least"] == pytest.approx(1 / 60)
    assert found.figures["usage/dead"] == 1, "below a tenth of a quarter"
    plain = -sum(p * math.log(p) for p in shares)
    assert plain < found.figures["usage/entropy"] < plain + 3 / 60, "less what a sample of 60 is too low by"
    assert 0 < found.figures["usage/entropy_se"] < 0.2
    even = usage(of_posterior(torch.full((60, 4), 0.25), healthy)).figures
    assert even["usage/entropy"] == pytest.approx(math.log(4))
    assert even["usage/entropy_se"] == pytest.approx(0, abs=1e-6)
    assert even["usage/dead"] == 0


def test_the_entropy_of_usage_is_right_in_the_mean(healthy: Subject) -> None:
    """Where that of the mean over 60 draws is not: of 300 samples from one law."""
    law, numbers = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.Generator().manual_seed(0)
    drawn = [torch.eye(4)[torch.multinomial(law, 60, True, generator=numbers)] for _ in range(300)]
    found = [usage(of_posterior(posterior, healthy)).figures for posterior in drawn]
    values = np.array([figures["usage/entropy"] for figures in found])
    plain = np.mean([-torch.special.xlogy(mean, mean).sum() for mean in (x.mean(0) for x in drawn)])
    truth, error = float(-(law * law.log()).sum()), values.std() / math.sqrt(300)
    assert abs(values.mean() - truth) < 3 * error
    assert plain < truth - 5 * error
    assert np.mean([figures["usage/entropy_se"] for figures in found]) == pytest.approx(
        values.std(), rel=0.15
    )


def test_the_posterior_for_a_guide_leaves_no_gap_and_all_draws_count(healthy: Subject) -> None:
    found = importance(healthy)
    assert found.figures["posterior/gap"] == pytest.approx(0, abs=1e-6)
    assert found.figures["posterior/gap_share"] == pytest.approx(0, abs=1e-6)
    assert found.figures["posterior/ess"] == pytest.approx(1, abs=1e-5)
    assert "posterior/pareto_k_bad" not in found.figures


def test_a_guide_that_reads_nothing_misses_all_there_is(healthy: Subject) -> None:
    """The gap is the information itself; of posteriors sure of one of four values one draw in four counts."""
    seen = replace(
        healthy.seen,
        posterior=torch.eye(4)[torch.arange(60) % 4],
        amortized=torch.full((60, 4), 0.25),
        gap=torch.full((60,), math.log(4)),
        information=torch.full((60,), math.log(4)),
    )
    found = importance(replace(healthy, seen=seen))
    assert found.figures["posterior/gap"] == pytest.approx(math.log(4))
    assert found.figures["posterior/gap_share"] == pytest.approx(1)
    assert found.figures["posterior/ess"] == pytest.approx(0.25)
    assert found.per_datum["ess"].tolist() == pytest.approx([0.25] * 60)


def test_the_effective_share_is_the_limit_of_that_of_draws(healthy: Subject) -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1, 0.0]), torch.tensor([0.25, 0.25, 0.4, 0.1])
    seen = replace(healthy.seen, posterior=p.expand(60, 4), amortized=q.expand(60, 4))
    exact = importance(replace(healthy, seen=seen)).figures["posterior/ess"]
    z = torch.multinomial(q, 20000, True, generator=torch.Generator().manual_seed(0))
    log_w = (p.clamp(min=1e-30) / q).log()[z][:, None]
    assert float(effective_share(log_w)[0]) == pytest.approx(exact, rel=0.02)
    assert exact == pytest.approx(1 / (0.49 / 0.25 + 0.04 / 0.25 + 0.01 / 0.4))


def test_where_nothing_is_told_the_gap_is_no_share_of_it(healthy: Subject) -> None:
    seen = replace(healthy.seen, information=torch.zeros(60))
    assert "posterior/gap_share" not in importance(replace(healthy, seen=seen)).figures


def weighted(log_w: Tensor, subject: Subject) -> Subject:
    assert isinstance(subject.seen, Posteriors)
    return replace(subject, seen=replace(subject.seen, exact=False, log_weight=log_w))


def test_weights_that_are_all_the_same_are_exact_and_have_no_tail(healthy: Subject) -> None:
    log_w = torch.linspace(-30, -10, 60).expand(64, 60) + 1e-6 * torch.rand(64, 60)
    found = importance(weighted(log_w, healthy))
    assert found.figures["posterior/pareto_k_bad"] == 0
    assert "posterior/pareto_k_max" not in found.figures
    assert found.figures["posterior/ess"] == pytest.approx(1)
    assert found.figures["posterior/iwae_elbo_gap"] == pytest.approx(0, abs=1e-5)
    assert np.isnan(found.per_datum["pareto_k"]).all()


def test_the_tail_of_pareto_weights_has_their_shape() -> None:
    numbers = torch.Generator().manual_seed(0)
    for k in (0.3, 0.9, 1.5):
        log_w = -k * torch.rand(4000, 30, generator=numbers, dtype=torch.float64).log()
        assert float(np.mean(pareto_k(log_w))) == pytest.approx(k, abs=0.1)


def test_heavy_tails_are_counted_and_a_single_draw_that_is_everything_is_one(healthy: Subject) -> None:
    """Of 60 data: 20 of weights without a tail to speak of, 20 of infinite mean, 20 of one draw."""
    numbers = torch.Generator().manual_seed(0)
    log_w = torch.rand(64, 60, generator=numbers)
    log_w[:, 20:40] = -3.0 * log_w[:, 20:40].log()
    log_w[0, 40:] = 1000.0
    found = importance(weighted(log_w, healthy))
    assert found.figures["posterior/pareto_k_bad"] == pytest.approx(2 / 3)
    shape = found.per_datum["pareto_k"]
    assert found.figures["posterior/pareto_k_max"] == shape[:40].max() > 1
    assert found.per_datum["ess"][40:].tolist() == pytest.approx([1 / 64] * 20)
    assert np.isinf(shape[40:]).all()
    assert all(math.isfinite(value) for value in found.figures.values())


def test_the_gap_of_two_weights_by_hand(healthy: Subject) -> None:
    log_w = torch.tensor([0.0, math.log(3)] * 32)[:, None].expand(64, 60)
    found = importance(weighted(log_w, healthy)).figures
    assert found["posterior/iwae_elbo_gap"] == pytest.approx(math.log(2) - math.log(3) / 2)
    assert found["posterior/ess"] == pytest.approx(4**2 / 2 / 10)


@pytest.mark.parametrize(("settings", "bad"), [({"blind": True}, False), ({"narrow": 0.2}, True)])
def test_a_guide_that_covers_the_posterior_has_light_tails_and_a_narrow_one_heavy(
    settings: dict[str, float], bad: bool
) -> None:
    program = Program({"z": Site(Normal(2))}, coin)
    found = importance(subject_of(program, Bayes(program, **settings), 60)).figures
    assert (found["posterior/pareto_k_bad"] > 0.3) == bad
    assert (found["posterior/ess"] < 0.3) == bad
    assert "posterior/gap" not in found


def test_of_latents_that_cannot_be_enumerated_there_is_no_usage() -> None:
    program = Program({"z": Site(Normal(1))}, coin)
    found = usage(subject_of(program, num=5))
    assert found.figures == found.curves == {}
