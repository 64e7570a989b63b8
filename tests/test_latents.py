"""Families of latents: each is found by its configuration, and held to the contract and to its own formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from stratagem.models import (
    BinaryCode,
    Capability,
    Categorical,
    Dirichlet,
    Finite,
    FiniteScalars,
    Latent,
    LogisticNormal,
    MultivariateNormal,
    RelaxedCategorical,
)
from stratagem.models.spec import build, spec_of
from torch import Tensor
from torch.distributions import Bernoulli, Independent
from torch.distributions import MultivariateNormal as Gaussian

FAMILIES = sorted(path.stem for path in (Path(__file__).parent.parent / "configs" / "latent").glob("*.yaml"))
families = pytest.mark.parametrize("family", FAMILIES)


def latent_of(family: str, **settings: Any) -> Latent:
    path = Path(__file__).parent.parent / "configs" / "latent" / f"{family}.yaml"
    latent: Latent = instantiate({**OmegaConf.to_container(OmegaConf.load(path)), **settings})  # type: ignore[dict-item]
    return latent


def parameters_of(latent: Latent, *shape: int, scale: float = 1.0) -> Tensor:
    torch.manual_seed(0)
    return scale * torch.randn(*shape, latent.num_parameters, dtype=torch.float64)


@families
def test_shapes_are_those_of_the_contract(family: str) -> None:
    latent = latent_of(family)
    law = latent.law(parameters_of(latent, 3, 1))
    assert law.batch_shape == (3, 1)
    z = law.sample((5,))
    assert z.shape == (5, 3, 1, *law.event_shape)
    assert law.log_prob(z).shape == (5, 3, 1)
    assert latent.features(z).shape == (5, 3, 1, latent.num_features)
    assert law.expand(torch.Size((2, 3, 4))).batch_shape == (2, 3, 4)


@families
def test_a_family_is_built_again_from_what_is_saved(family: str) -> None:
    latent = latent_of(family)
    assert vars(build(spec_of(latent))) == vars(latent)


@families
def test_capabilities_are_kept(family: str) -> None:
    latent = latent_of(family)
    parameters = parameters_of(latent, 4).requires_grad_()
    law = latent.law(parameters)
    assert law.has_rsample == (Capability.REPARAMETERISED in latent.capabilities)
    assert law.has_enumerate_support == (Capability.ENUMERABLE in latent.capabilities)
    assert Capability.SCORABLE in latent.capabilities
    (by_score,) = torch.autograd.grad(law.log_prob(law.sample()).sum(), parameters, retain_graph=True)
    assert by_score.abs().sum(-1).min() > 0
    if law.has_rsample:
        (by_path,) = torch.autograd.grad(latent.features(law.rsample())[:, 0].sum(), parameters)
        assert by_path.isfinite().all()
        assert by_path.abs().max() > 0


@families
def test_zeros_give_a_law_that_prefers_no_coordinate(family: str) -> None:
    """Means of features within 4.5 standard errors of each other."""
    latent = latent_of(family)
    law = latent.law(torch.zeros(latent.num_parameters, dtype=torch.float64))
    values = latent.features(law.sample((20_000,))).double()
    if isinstance(latent, LogisticNormal):
        values = values[:, :-1]  # the last weight is that of the reference
    gap = (values - values.mean(1, keepdim=True)).mean(0).abs()
    assert (gap < 4.5 * values.std(0) / 20_000**0.5 + 1e-12).all()


@families
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e3])
def test_densities_and_gradients_are_finite_far_out(family: str, scale: float) -> None:
    """In single precision, at draws of the law itself."""
    latent = latent_of(family)
    parameters = parameters_of(latent, 2000, scale=scale).float().requires_grad_()
    law = latent.law(parameters)
    z = law.rsample() if law.has_rsample else law.sample()
    log_p = law.log_prob(z)
    assert log_p.isfinite().all()
    (log_p.sum() + latent.features(z).sum()).backward()
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()


@pytest.mark.parametrize(
    "latent", [Categorical(5), BinaryCode(3), FiniteScalars(3, 2), FiniteScalars(2, 4, True)]
)
def test_finite_laws_sum_to_one_and_mixtures_have_the_mean_of_the_features(latent: Finite) -> None:
    law = latent.law(parameters_of(latent, 3))
    values = law.enumerate_support(expand=False)[:, 0]
    assert values.tolist() == [*range(latent.num_values)]
    p = law.log_prob(values[:, None]).exp().T  # (3, P)
    torch.testing.assert_close(p.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(latent.features(p), p @ latent.features(values).double())
    assert len({tuple(row) for row in latent.features(values).tolist()}) == latent.num_values
    with pytest.raises(ValueError, match=rf"z must be in 0\.\.{latent.num_values - 1}, got \[-1\]"):
        latent.features(torch.tensor([-1]))


def test_bits_are_independent() -> None:
    latent = BinaryCode(3)
    parameters = parameters_of(latent, 2)
    z = torch.arange(8)
    bits = (latent.features(z).double() + 1) / 2
    known = Independent(Bernoulli(logits=parameters), 1).log_prob(bits[:, None])
    torch.testing.assert_close(latent.law(parameters).log_prob(z[:, None]), known)


@pytest.mark.parametrize("spaced", [False, True])
def test_coordinates_of_finite_scalars_are_independent(spaced: bool) -> None:
    latent = FiniteScalars(2, 3, spaced)
    parameters = parameters_of(latent)
    log_p = parameters.reshape(2, 3).log_softmax(-1)
    joint = latent.law(parameters).log_prob(torch.arange(9))
    torch.testing.assert_close(joint.reshape(3, 3), log_p[1][:, None] + log_p[0])
    rows = latent.features(torch.arange(9))
    if spaced:
        assert rows[:4].tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 0]]
    else:
        assert rows[5].tolist() == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("rank", [None, 1, 2, 3])
def test_gaussians_start_standard_and_have_the_covariance_that_is_said(rank: int | None) -> None:
    latent = MultivariateNormal(3, rank)
    zeros = torch.zeros(latent.num_parameters, dtype=torch.float64)
    torch.testing.assert_close(latent.law(zeros).covariance_matrix, torch.eye(3, dtype=torch.float64))
    parameters = parameters_of(latent)
    loc, scale, rest = parameters[:3], parameters[3:6].exp(), parameters[6:]
    if rank is None:
        factor = torch.eye(3, dtype=torch.float64)
        factor[1, 0], factor[2, 0], factor[2, 1] = 10 * (rest / 10).tanh()
        factor = scale[:, None] * factor
        covariance = factor @ factor.T
    else:
        first = 0.5 * torch.eye(3, rank, dtype=torch.float64)
        factor = first + rest.reshape(3, rank)
        covariance = (scale.square() * (1 - first.square().sum(1))).diag() + factor @ factor.T
    z = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(latent.law(parameters).log_prob(z), Gaussian(loc, covariance).log_prob(z))


@pytest.mark.parametrize("rank", [None, 1, 2])
def test_covariances_of_gaussians_are_learned_from_the_start(rank: int | None) -> None:
    """Correlated data move every parameter of the covariance; ``F F^T`` would have no gradient at F = 0."""
    latent = MultivariateNormal(3, rank)
    zeros = torch.zeros(latent.num_parameters, dtype=torch.float64, requires_grad=True)
    z = torch.randn(500, 1, dtype=torch.float64) + 0.3 * torch.randn(500, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(latent.law(zeros).log_prob(z).mean(), zeros)
    assert gradient[6:].abs().max() > 0.1


def test_soft_mixtures_are_weights() -> None:
    for latent in (LogisticNormal(4), Dirichlet(4), RelaxedCategorical(4)):
        law = latent.law(parameters_of(latent, 6))
        weights = latent.features(law.sample())
        assert weights.shape == (6, 4)
        torch.testing.assert_close(weights.sum(-1), torch.ones(6, dtype=torch.float64))
        assert (weights >= 0).all()


REFUSED = {
    "K": (lambda: LogisticNormal(1), "logistic_normal: K must be at least 2, got 1"),
    "dirichlet": (lambda: Dirichlet(1), "dirichlet: K must be at least 2, got 1"),
    "relaxed": (lambda: RelaxedCategorical(1), "relaxed_categorical: K must be at least 2, got 1"),
    "cold": (lambda: RelaxedCategorical(3, 0.1), r"temperature must be from 0\.4 to 10, got 0\.1"),
    "rank": (lambda: MultivariateNormal(3, 4), "rank must be from 1 to D=3, got 4"),
    "D": (lambda: MultivariateNormal(0), "multivariate_normal: D must be at least 1, got 0"),
    "bits": (lambda: BinaryCode(0), "binary_code: H must be at least 1, got 0"),
    "many": (lambda: BinaryCode(17), "binary_code: 131072 values, each .* at most 65536"),
    "levels": (lambda: FiniteScalars(2, 1), "at least 1 and L at least 2, got D=2 and L=1"),
    "many levels": (lambda: FiniteScalars(20, 3), "finite_scalars: 3486784401 values"),
    "not weights": (
        lambda: Dirichlet(2).features(torch.tensor([0.7, 0.7])),
        r"latent dirichlet: 2 weights .* sums from 1\.4 to 1\.4",
    ),
    "shape": (
        lambda: RelaxedCategorical(3).features(torch.ones(2)),
        r"latent relaxed_categorical: expected z of shape \(\*, 3\), got \(2,\)",
    ),
    "vector": (
        lambda: MultivariateNormal(3).features(torch.ones(2)),
        r"multivariate_normal: expected z of shape \(\*, 3\), got \(2,\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make()
