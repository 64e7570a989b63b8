"""Terms on the coordinates of Gaussian latents, against their formulas written out one value at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import Pathwise
from stratagem.inference.inference import Inference
from stratagem.inference.laws import Law, diagonal_normals, draw_coordinates
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO
from stratagem.inference.terms import DIP, DensityGap, PosteriorVariance, Term, TotalCorrelation
from stratagem.models import Batch, Categorical, Normal
from torch import Tensor, nn

from .aggregate_fixtures import (
    density,
    divergence,
    gaussian_log,
    gaussian_parameters,
    gradients,
    holds_in_expectation,
    mixture,
)
from .inference_fixtures import EXACT, gaussian_batch

TERMS: dict[str, Term] = {
    "total correlation": TotalCorrelation(7),
    "dip i": DIP("I"),
    "dip ii": DIP("II"),
    "density gap": DensityGap(),
    "variance": PosteriorVariance(),
}


def laws(q_mean: list[list[float]], q_scale: float) -> list[Tensor]:
    """Posteriors of given means and one scale, standard routers."""
    mean = torch.tensor(q_mean, dtype=torch.float64).requires_grad_()
    log_scale = torch.full_like(mean, math.log(q_scale)).requires_grad_()
    return [mean, log_scale, torch.zeros_like(mean), torch.zeros_like(mean)]


SQUARE = list(itertools.product([-1.0, 1.0], repeat=2))
"""Means whose covariance is the identity, and whose coordinates are independent."""


def stratified(z: Tensor, b: int, densities: list[Tensor], size: int) -> Tensor:
    """Of the density at a draw of datum b, from those under every law of the batch."""
    rest = [p for j, p in enumerate(densities) if j != b]
    return densities[b] / size + (size - 1) / size * sum(rest) / len(rest) + 0 * z.sum()


def total_correlation(z: Tensor, mean: Tensor, log_scale: Tensor, size: int) -> Tensor:
    """``(B,)`` of draws ``(S, B, D)``."""
    particles, data, dimensions = z.shape
    values = []
    for b in range(data):
        value = z.new_zeros(())
        for s in range(particles):
            each = [
                [density(z[s, b, d], mean[j, d], log_scale[j, d]) for j in range(data)]
                for d in range(dimensions)
            ]
            joint = [math.prod(each[d][j] for d in range(dimensions)) for j in range(data)]
            value = value + stratified(z, b, joint, size).log() / particles
            value = value - sum(stratified(z, b, row, size).log() for row in each) / particles
        values.append(value)
    return torch.stack(values)


def same_draws(log: LogQuantities) -> Tensor:
    pyro.set_rng_seed(11)
    return draw_coordinates(log, Law.POSTERIOR)


def is_the_correlation_of_its_draws(value: Callable[[LogQuantities], Tensor]) -> None:
    parameters = gaussian_parameters()
    log = gaussian_log(parameters, 2)
    expected = total_correlation(same_draws(log), *parameters[:2], size=7)
    pyro.set_rng_seed(11)
    found = value(log)
    torch.testing.assert_close(found, expected, **EXACT)
    truth = gradients(expected.mean(), parameters)
    for a, b in zip(gradients(found.mean(), parameters), truth, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


class EvenWeights(TotalCorrelation):
    """The batch's own mixture in place of that of the data."""

    def log_weights(self, batch: int) -> Tensor:
        return torch.full((batch, batch), -math.log(batch), dtype=torch.float64)


def test_the_total_correlation_is_that_of_its_draws() -> None:
    is_the_correlation_of_its_draws(TotalCorrelation(7).value)
    for wrong in (
        TotalCorrelation(8).value,
        EvenWeights(7).value,
        lambda log: -TotalCorrelation(7).value(log),
    ):
        with pytest.raises(AssertionError):
            is_the_correlation_of_its_draws(wrong)


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_the_stratified_density_is_unbiased_over_batches(batch: int) -> None:
    """Over all batches that hold the datum whose draw it is, of a set of five."""
    size, own = 5, 2
    densities = torch.rand(size, dtype=torch.float64)
    rest = [n for n in range(size) if n != own]

    def estimate(term: TotalCorrelation, chosen: tuple[int, ...]) -> Tensor:
        return (term.log_weights(batch)[0].exp() * densities[[own, *chosen]]).sum()

    def mean(term: TotalCorrelation) -> Tensor:
        batches = list(itertools.combinations(rest, batch - 1))
        return torch.stack([estimate(term, chosen) for chosen in batches]).mean()

    torch.testing.assert_close(mean(TotalCorrelation(size)), densities.mean(), **EXACT)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(mean(EvenWeights(size)), densities.mean(), **EXACT)


def test_independent_coordinates_have_no_total_correlation() -> None:
    for q_mean, size in ((SQUARE, 4), ([[0.3, -1.0]] * 3, 50)):
        value = TotalCorrelation(size).value(gaussian_log(laws(q_mean, 0.7), 3))
        torch.testing.assert_close(value, torch.zeros_like(value), **EXACT)
    bound = TotalCorrelation(2).value(gaussian_log(laws([[-4.0, -4.0], [4.0, 4.0]], 0.1), 3))
    torch.testing.assert_close(bound, torch.full_like(bound, math.log(2)), **EXACT)
    one = TotalCorrelation(7).value(gaussian_log(gaussian_parameters(dimensions=1), 2))
    torch.testing.assert_close(one, torch.zeros_like(one), **EXACT)
    assert TotalCorrelation(7).value(gaussian_log(gaussian_parameters(data=1), 2)) == 0


def dip(mean: Tensor, log_scale: Tensor, kind: str, diagonal: float) -> Tensor:
    data, dimensions = mean.shape
    value = mean.new_zeros(())
    for i, j in itertools.product(range(dimensions), repeat=2):
        centre = [sum(mean[b, d] for b in range(data)) / data for d in (i, j)]
        covariance = sum((mean[b, i] - centre[0]) * (mean[b, j] - centre[1]) for b in range(data)) / data
        if kind == "II" and i == j:
            covariance = covariance + sum((2 * log_scale[b, i]).exp() for b in range(data)) / data
        value = value + (diagonal * (covariance - 1) ** 2 if i == j else covariance**2)
    return value


@pytest.mark.parametrize("kind", ["I", "II"])
def test_dip_is_the_distance_of_the_covariance_from_the_identity(kind: str) -> None:
    parameters = gaussian_parameters(data=4, dimensions=3)
    expected = dip(*parameters[:2], kind, 2.5)
    truth = gradients(expected, parameters)

    def holds(term: Term) -> None:
        found = term.value(gaussian_log(parameters, 2))
        torch.testing.assert_close(found, expected.expand(4), **EXACT)
        for a, b in zip(gradients(found.mean(), parameters), truth, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)

    holds(DIP(kind, diagonal=2.5))
    for wrong in (DIP(kind, diagonal=2.0), DIP("II" if kind == "I" else "I", diagonal=2.5)):
        with pytest.raises(AssertionError):
            holds(wrong)


def test_dip_is_nothing_at_the_identity() -> None:
    torch.testing.assert_close(
        DIP("I").value(gaussian_log(laws(SQUARE, 0.5), 2)), torch.zeros(4, dtype=torch.float64), **EXACT
    )
    shrunk = [[0.6 * a, 0.6 * b] for a, b in SQUARE]
    torch.testing.assert_close(
        DIP("II").value(gaussian_log(laws(shrunk, 0.8), 2)), torch.zeros(4, dtype=torch.float64), **EXACT
    )


def marginal_gaps(q: Law, p: Law, parameters: list[Tensor]) -> Tensor:
    of = {Law.POSTERIOR: parameters[:2], Law.PRIOR: parameters[2:]}
    gaps = []
    for d in range(parameters[0].shape[1]):
        at = {
            law: mixture(mean[:, d : d + 1], log_scale[:, d : d + 1]) for law, (mean, log_scale) in of.items()
        }
        gaps.append(divergence(at[q], at[p]))
    return torch.stack(gaps).sum()


def test_the_density_gap_is_the_divergence_of_the_marginals() -> None:
    parameters = gaussian_parameters()

    def holds(truth: Tensor) -> None:
        holds_in_expectation(
            lambda: DensityGap().value(gaussian_log(parameters, 400)).mean(), truth, parameters
        )

    holds(marginal_gaps(Law.POSTERIOR, Law.PRIOR, parameters))
    with pytest.raises(AssertionError, match="tensor"):
        holds(marginal_gaps(Law.PRIOR, Law.POSTERIOR, parameters))


def test_the_variance_is_the_divergence_from_the_same_means_at_another_scale() -> None:
    parameters = gaussian_parameters()
    mean, log_scale = parameters[:2]
    expected = torch.distributions.kl_divergence(
        dist.Normal(mean, log_scale.exp()), dist.Normal(mean, 0.4)
    ).sum(1)
    found = PosteriorVariance(scale=0.4).value(gaussian_log(parameters, 2))
    torch.testing.assert_close(found, expected, **EXACT)
    of_mean, of_scale, *_ = gradients(found.sum(), parameters)
    assert of_mean.abs().max() == 0
    torch.testing.assert_close(of_scale, gradients(expected.sum(), parameters)[1], rtol=0, atol=1e-9)
    level = PosteriorVariance(scale=0.4).value(gaussian_log(laws(SQUARE, 0.4), 2))
    torch.testing.assert_close(level, torch.zeros_like(level), **EXACT)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(PosteriorVariance().value(gaussian_log(parameters, 2)), expected, **EXACT)


@pytest.mark.parametrize("name", TERMS)
def test_the_order_of_the_batch_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = torch.tensor([2, 0, 1])
    noise = torch.randn(2, 3, 2, dtype=torch.float64)
    parameters = gaussian_parameters()
    logs = [gaussian_log(parameters, 2), gaussian_log([p[order] for p in parameters], 2)]
    values = []
    for log, at in zip(logs, (noise, noise[:, order]), strict=True):
        monkeypatch.setattr(torch, "randn_like", lambda _, at=at: at)
        values.append(TERMS[name].value(log))
    torch.testing.assert_close(values[1], values[0][order], **EXACT)
    assert TERMS[name].signed_weight(1.0) == -1.0


class TwoVectors(nn.Module):
    """Two Gaussian latents of two coordinates and one, for a guide, or a model with a response."""

    def __init__(self, observe: bool) -> None:
        super().__init__()
        self.observe = observe
        self.shift = nn.Parameter(torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64))

    def forward(self, batch: Batch) -> None:
        y = batch.features["y"]
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("a", dist.Normal(y[:, None] * self.shift[:2], 1.0).to_event(1))
            b = pyro.sample("b", dist.Normal(y + self.shift[2], 0.5))
            if self.observe:
                pyro.sample("y", dist.Normal(b, 1.0), obs=y)


def test_the_coordinates_of_all_latents_are_one_vector() -> None:
    model, guide, batch = TwoVectors(True), TwoVectors(False), gaussian_batch()
    log = Sample(2)(model, guide, batch)
    y = batch.features["y"]
    for law, program in ((Law.POSTERIOR, guide), (Law.PRIOR, model)):
        mean, scale = diagonal_normals(log, law)
        expected = torch.stack([y * program.shift[0], y * program.shift[1], y + program.shift[2]], 1)
        torch.testing.assert_close(mean, expected.expand(2, 3, 3), **EXACT)
        assert scale[..., :2].eq(1.0).all()
        assert scale[..., 2].eq(0.5).all()
    loss = Inference(ELBO(), Sample(2), Pathwise(), TERMS)(model, guide, batch)
    for gradient in torch.autograd.grad(loss.surrogate, list(guide.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_latents_without_gaussian_coordinates_are_refused() -> None:
    for term in TERMS.values():
        inference = Inference(ELBO(), Sample(2), Pathwise(), {"term": term})
        inference.check({"z": Normal(2)})
        with pytest.raises(ValueError, match="Categorical"):
            Inference.check(inference, {"z": Categorical(3)})

    def program(batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Laplace(torch.zeros(3, dtype=torch.float64), 1.0))

    log = Sample(2)(program, program, gaussian_batch())
    for term in TERMS.values():
        with pytest.raises(ValueError, match=r"site z: q\(z\|x,y\) is Laplace"):
            term.value(log)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TotalCorrelation(1), "size must be at least 2"),
        (lambda: TotalCorrelation(2).value(gaussian_log(gaussian_parameters(), 1)), "batch of 3 data"),
        (lambda: DIP("III"), "kind I or II, got 'III'"),
        (lambda: DIP("I", diagonal=-1.0), "diagonal must be finite"),
        (lambda: PosteriorVariance(scale=0.0), "scale must be above 0"),
    ],
)
def test_settings_without_meaning_are_refused(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
