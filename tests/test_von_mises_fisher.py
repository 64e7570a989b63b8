"""The von Mises-Fisher law: its density by other means, its draws, and the gradients of its draws."""

from __future__ import annotations

import math

import pytest
import torch
from stratagem.models import VonMisesFisher
from stratagem.models.laws import VonMisesFisherLaw
from stratagem.models.laws import von_mises_fisher as module
from torch import Tensor
from torch.distributions import kl_divergence

LENGTHS = [1e-9, 0.3, 1.0, 3.0, 30.0, 900.0]


def law_of(dim: int, length: float) -> VonMisesFisherLaw:
    torch.manual_seed(dim)
    theta = torch.randn(dim, dtype=torch.float64)
    return VonMisesFisherLaw(length * theta / theta.norm())


def log_bessel(order: float, x: float) -> float:
    """``log I_order(x)`` by its series [Abramowitz & Stegun 9.6.10]."""
    terms = [
        (2 * m + order) * math.log(x / 2) - math.lgamma(m + 1) - math.lgamma(m + order + 1)
        for m in range(2000)
    ]
    return float(torch.tensor(terms, dtype=torch.float64).logsumexp(0))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dim", [2, 3, 5, 64])
def test_the_normaliser_is_a_bessel_function(dim: int, length: float) -> None:
    """``Z = (2 pi)^(D/2) I_(D/2-1)(k) / k^(D/2-1)`` [Mardia & Jupp 2000, eq. 9.3.4]."""
    v = dim / 2 - 1
    wanted = dim / 2 * math.log(2 * math.pi) + log_bessel(v, length) - v * math.log(length)
    assert float(law_of(dim, length).log_normaliser) == pytest.approx(wanted, abs=1e-9, rel=1e-11)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dim", [2, 3, 8])
def test_draws_have_the_moments_of_the_law(dim: int, length: float) -> None:
    law, num = law_of(dim, length), 40_000
    z = law.sample((num,))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(num, dtype=torch.float64))
    error = (law.variance / num).sqrt()
    assert ((z.mean(0) - law.mean).abs() < 4.5 * error + 1e-12).all()
    torch.testing.assert_close(z.var(0), law.variance, rtol=0.05, atol=1e-9)
    score = law.theta @ (z - law.mean).T  # mean 0, and -log p = log Z - theta . z has the entropy as its mean
    assert abs(float(score.mean())) < 4.5 * float(score.std()) / num**0.5 + 1e-12


@pytest.mark.parametrize("length", LENGTHS)
def test_on_the_circle_it_is_the_von_mises_law(length: float) -> None:
    law = law_of(2, length)
    angle = torch.linspace(-3, 3, 13, dtype=torch.float64)
    at = torch.stack([angle.cos(), angle.sin()], -1)
    centre = torch.atan2(law.theta[1], law.theta[0])
    known = torch.distributions.VonMises(centre, torch.tensor(length, dtype=torch.float64))
    torch.testing.assert_close(law.log_prob(at), known.log_prob(angle), atol=2e-6, rtol=1e-6)


def test_mean_entropy_and_divergence_are_those_of_an_exponential_family() -> None:
    """The mean is the gradient of ``log Z``; ``KL(p || q)`` is the mean of the difference of the densities."""
    theta = law_of(4, 3.0).theta.requires_grad_()
    law = VonMisesFisherLaw(theta)
    (gradient,) = torch.autograd.grad(law.log_normaliser, theta)
    torch.testing.assert_close(gradient, law.mean.detach())
    law, other = law_of(4, 3.0), law_of(4, 0.5)
    z = law.sample((200_000,))
    gap = law.log_prob(z) - other.log_prob(z)
    assert float(kl_divergence(law, other)) == pytest.approx(
        float(gap.mean()), abs=4 * float(gap.std()) / 447
    )
    assert float(kl_divergence(law, law)) == pytest.approx(0, abs=1e-12)
    log_p = law.log_prob(z)
    assert float(law.entropy()) == pytest.approx(-float(log_p.mean()), abs=4 * float(log_p.std()) / 447)


def readings(z: Tensor) -> Tensor:
    """Functions on the sphere, ``(4, draws)``."""
    return torch.stack([z[:, 0], z[:, 1] * z[:, 0], z[:, -1].square(), (2 * z[:, 1]).exp()])


@pytest.mark.parametrize("length", [1e-9, 0.3, 1.0, 2.0, 8.0, 100.0])
@pytest.mark.parametrize("dim", [2, 3, 7])
def test_gradients_of_draws_are_those_of_the_mean(dim: int, length: float) -> None:
    """Against ``E[f(z) (z - E[z])]``, the gradient by the score, on the same draws; 4.5 standard errors."""
    num = 20_000
    theta = law_of(dim, length).theta.expand(num, dim).clone().requires_grad_()
    law = VonMisesFisherLaw(theta)
    z = law.rsample()
    for values in readings(z):
        (by_path,) = torch.autograd.grad(values.sum(), theta, retain_graph=True)
        by_score = ((values - values.mean())[:, None] * (z - law.mean)).detach()
        error = (by_path - by_score).std(0) / num**0.5
        assert ((by_path - by_score).mean(0).abs() < 4.5 * error + 1e-9).all()
        if length > 3:
            assert by_path.std(0).norm() < by_score.std(0).norm(), "the reason to have it"


@pytest.mark.parametrize(("part", "length"), [("_flat_speed", 0.3), ("_cosine_speed", 3.0)])
def test_another_flow_would_not_do(part: str, length: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(module, part)
    monkeypatch.setattr(module, part, lambda *given: 1.1 * right(*given))
    with pytest.raises(AssertionError):
        test_gradients_of_draws_are_those_of_the_mean(3, length)


@pytest.mark.parametrize("dim", [2, 3, 16, 128])
def test_draws_and_gradients_are_finite_in_single_precision(dim: int) -> None:
    for length in (0.0, 1e-8, 1e-3, 1.0, 1e2, 1e3, 1e6):
        parameters = torch.zeros(2000, dim)
        parameters[:, 1] = length
        parameters.requires_grad_()
        law = VonMisesFisher(dim).law(parameters)
        z = law.rsample()
        (law.log_prob(z).sum() + z.square().sum() + z[:, 0].sum() + law.entropy().sum()).backward()
        assert parameters.grad is not None
        assert parameters.grad.isfinite().all(), length
        assert ((z.norm(dim=-1) - 1).abs() < 1e-5).all()
        assert law.log_prob(z.detach()).isfinite().all()


def test_zeros_give_the_uniform_law() -> None:
    law = VonMisesFisher(3).law(torch.zeros(5, 3))
    z = law.sample()
    torch.testing.assert_close(law.log_prob(z), torch.full((5,), -math.log(4 * math.pi)))


def test_shapes_and_refusals() -> None:
    law = VonMisesFisherLaw(torch.ones(3, 1, 4)).expand(torch.Size((3, 2)))
    assert (law.batch_shape, law.event_shape) == ((3, 2), (4,))
    assert law.rsample((5,)).shape == (5, 3, 2, 4)
    assert law.log_prob(law.sample((5,))).shape == (5, 3, 2)
    with pytest.raises(ValueError, match=r"D must be at least 2, got theta of shape \(3, 1\)"):
        VonMisesFisherLaw(torch.ones(3, 1))
    with pytest.raises(
        ValueError, match=r"unit vectors of shape \(\*, 3\), got shape \(2, 3\) and lengths from 1\.7"
    ):
        VonMisesFisher(3).features(torch.ones(2, 3))


def test_the_value_nearest_to_a_mean_of_directions_is_a_direction() -> None:
    latent = VonMisesFisher(2)
    torch.testing.assert_close(latent.nearest(torch.tensor([0.3, 0.4])), torch.tensor([0.6, 0.8]))
    assert latent.nearest(torch.zeros(2)).norm() == 1
