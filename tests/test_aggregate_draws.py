"""Terms over a minibatch of continuous latents: their draws against integrals and sums over pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pyro
import pytest
import torch
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import Held
from stratagem.inference.inference import Inference
from stratagem.inference.laws import Law, Values
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO
from stratagem.inference.terms import (
    AggregateKL,
    AggregateMMD,
    MinibatchInformation,
    PosteriorEntropy,
    RouterSupport,
    RouterToPrior,
)
from torch import Tensor

from .aggregate_fixtures import (
    FLOOR,
    GRID,
    WRITTEN,
    density,
    divergence,
    gaussian_log,
    gaussian_parameters,
    holds_in_expectation,
    integral,
    mixture,
)
from .inference_fixtures import EXACT, GaussianGuide, LinearGaussian, gaussian_batch


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
