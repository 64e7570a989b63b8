"""Gradients through samples against sums over their noise, on linear-Gaussian models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import (
    DoublyReparameterised,
    Gradient,
    Pathwise,
    StickingTheLanding,
    pathwise,
    sticking_the_landing,
    two_paths,
)
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, IWAE, PIWAE, AutoGen, Capacity, FreeBits, Objective, Renyi
from torch import Tensor

from .gaussian_fixtures import BOUNDS, Chain, OneSite, Problem, Quadrature, found, holds, mean, truth
from .inference_fixtures import close, gaussian_batch, gaussian_elbo

ONE = Quadrature.of(["z"], 1, 30, [0.4, -1.1])
TWO = Quadrature.of(["z"], 2, 48, [0.4, -1.1])
FOUR = Quadrature.of(["z"], 4, 16, [0.4])
CHAIN_ONE = Quadrature.of(["z1", "z2"], 1, 12, [0.4, -1.1])
CHAIN_TWO = Quadrature.of(["z1", "z2"], 2, 18, [0.4])


def test_the_sum_over_the_noise_is_the_closed_form() -> None:
    problem, q = OneSite(), Quadrature.of(["z"], 1, 20, gaussian_batch().features["y"].tolist())
    elbo = gaussian_elbo(problem.model, problem.guide, gaussian_batch().features["y"])
    close(truth(problem, mean, mean, q), problem.gradients(elbo.mean()))
    holds(problem, "elbo", Pathwise(), q)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside terms"])
@pytest.mark.parametrize("gradient", [Pathwise(), DoublyReparameterised()], ids=["pathwise", "dreg"])
@pytest.mark.parametrize("name", BOUNDS)
def test_the_gradient_of_each_bound_is_unbiased(name: str, gradient: Gradient, alone: bool) -> None:
    holds(OneSite(), name, gradient, FOUR if name.endswith("S=4") else TWO, alone)


@pytest.mark.parametrize("q", [ONE, TWO], ids=["S=1", "S=2"])
def test_sticking_the_landing_is_unbiased(q: Quadrature) -> None:
    holds(OneSite(), "elbo", StickingTheLanding(), q)
    for objective in (ELBO(0.3), AutoGen(2.0)):
        expected = found(OneSite(), objective, Pathwise(), q)
        close(found(OneSite(), objective, StickingTheLanding(), q), expected)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside terms"])
@pytest.mark.parametrize(
    ("name", "gradient", "q"),
    [
        ("elbo", StickingTheLanding(), CHAIN_ONE),
        ("iwae", DoublyReparameterised(), CHAIN_TWO),
        ("piwae", DoublyReparameterised(), CHAIN_TWO),
        ("piwae", Pathwise(), CHAIN_TWO),
    ],
    ids=["stl", "dreg", "dreg of two bounds", "pathwise of two bounds"],
)
def test_a_site_given_another_has_an_unbiased_gradient(
    name: str, gradient: Gradient, q: Quadrature, alone: bool
) -> None:
    holds(Chain(), name, gradient, q, alone)


def squares(problem: Problem, objective: Objective, gradient: Gradient, particles: int) -> dict[str, float]:
    """The largest gradient of a part on any of a few draws."""
    largest = {"model": 0.0, "guide": 0.0}
    for _ in range(5):
        noise = {name: torch.randn(particles, 1, dtype=torch.float64) for name in problem.sites}
        _, raised = gradient.surrogate(
            objective, problem.run(torch.tensor([0.7], dtype=torch.float64), noise)
        )
        for name, slope in problem.gradients(raised.sum()).items():
            part = name.partition(".")[0]
            largest[part] = max(largest[part], float(slope.abs()))
    return largest


@pytest.mark.parametrize("problem", [OneSite, Chain])
@pytest.mark.parametrize(
    ("gradient", "plain", "objective", "particles"),
    [
        (StickingTheLanding(), Pathwise(), ELBO(), 1),
        (StickingTheLanding(), Pathwise(), ELBO(), 3),
        (DoublyReparameterised(), Pathwise(), IWAE(), 3),
        (DoublyReparameterised(), Pathwise(), PIWAE(2), 4),
        (DoublyReparameterised(), Pathwise(), Renyi(-1.0), 3),
    ],
    ids=["stl", "stl S=3", "dreg", "dreg piwae", "dreg chi-square"],
)
def test_at_the_posterior_every_draw_leaves_the_guide(
    problem: Callable[[], Problem], gradient: Gradient, plain: Gradient, objective: Objective, particles: int
) -> None:
    exact = problem()
    exact.make_exact()
    quiet, noisy = (squares(exact, objective, how, particles) for how in (gradient, plain))
    assert quiet["guide"] < 1e-12
    assert quiet["model"] > 0.1
    assert noisy["guide"] > 0.01
    assert squares(problem(), objective, gradient, particles)["guide"] > 0.01, (
        "off the posterior there is some"
    )


def signal_to_noise(gradient: Gradient, particles: int, runs: int = 4000) -> float:
    """Of the gradient of the IWAE in the guide's ``b``, each run with one of its own, q wider than the posterior."""
    problem = OneSite()
    problem.set_guide(r=-0.3)
    own = torch.nn.Parameter(torch.full((runs,), 0.4, dtype=torch.float64))
    problem.guide.b = own
    noise = {"z": torch.randn(particles, runs, dtype=torch.float64)}
    _, raised = gradient.surrogate(IWAE(), problem.run(torch.full((runs,), -1.1, dtype=torch.float64), noise))
    (slopes,) = torch.autograd.grad(raised.sum(), own)
    return float(slopes.mean().abs() / slopes.std())


def test_more_particles_drown_the_pathwise_signal_and_not_the_doubly_reparameterised() -> None:
    """As ``1/sqrt(S)`` and ``sqrt(S)``, a factor of 4 from S = 4 to 64; measured to 0.02 at worst."""
    plain, double = ({s: signal_to_noise(g(), s) for s in (4, 64)} for g in (Pathwise, DoublyReparameterised))
    assert plain[64] < 0.5 * plain[4]
    assert double[64] > 2 * double[4]
    assert plain[4] > 0.05, "too noisy to say anything"


class WrongSign(DoublyReparameterised):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        first, second = two_paths.slope_and_curvature(objective.guide_bound, log)
        return objective.bound(log), two_paths.two_paths(
            log, two_paths.slope(objective.bound, log), first + second
        )


class NotSquared(DoublyReparameterised):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        a = two_paths.slope(objective.bound, log)
        return objective.bound(log), two_paths.two_paths(log, a, a)


class SquaredInTheModelToo(DoublyReparameterised):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        first, second = two_paths.slope_and_curvature(objective.guide_bound, log)
        return objective.bound(log), two_paths.two_paths(log, first - second, first - second)


class OnTheDrawsThemselves(Gradient):
    """Reads, in place of what the model reads, the draw behind it, which the guide's next site reads too."""

    def __init__(self, right: Gradient) -> None:
        super().__init__()
        self.right = right

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        sites = {name: replace(site, z=site.z._base) for name, site in log.sites.items()}
        return self.right.surrogate(objective, replace(log, sites=sites))


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside terms"])
@pytest.mark.parametrize(
    ("problem", "name", "wrong", "q"),
    [
        (OneSite, "iwae", WrongSign(), TWO),
        (OneSite, "iwae", NotSquared(), TWO),
        (OneSite, "iwae", SquaredInTheModelToo(), TWO),
        (Chain, "iwae", OnTheDrawsThemselves(DoublyReparameterised()), CHAIN_TWO),
        (Chain, "piwae", OnTheDrawsThemselves(Pathwise()), CHAIN_TWO),
        (OneSite, "iwae", StickingTheLanding(), TWO),
    ],
    ids=["sign", "not squared", "squared in both", "wrong tensor", "wrong tensor of two bounds", "no score"],
)
def test_a_wrong_estimator_is_caught(
    problem: Callable[[], Problem], name: str, wrong: Gradient, q: Quadrature, alone: bool
) -> None:
    with pytest.raises(AssertionError):
        holds(problem(), name, wrong, q, alone)


@pytest.mark.parametrize(("name", "q"), [("chi-square", TWO), ("piwae S=4", FOUR)])
def test_pathwise_without_the_direct_part_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, q: Quadrature
) -> None:
    right = pathwise.rescore
    monkeypatch.setattr(pathwise, "rescore", lambda *a, **k: right(*a, **k).detach())
    with pytest.raises(AssertionError):
        holds(OneSite(), name, Pathwise(), q)


@pytest.mark.parametrize(
    ("module", "name", "gradient"),
    [(two_paths, "piwae", Pathwise()), (two_paths, "iwae", DoublyReparameterised())],
    ids=["pathwise", "dreg"],
)
def test_a_guide_that_is_not_held_is_caught(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, gradient: Gradient
) -> None:
    right = module.rescore
    monkeypatch.setattr(module, "rescore", lambda log, z, **_: right(log, z, fixed=False))
    with pytest.raises(AssertionError):
        holds(OneSite(), name, gradient, TWO)


def test_sticking_the_landing_with_the_score_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = sticking_the_landing.rescore
    monkeypatch.setattr(sticking_the_landing, "rescore", lambda log, z, **_: right(log, z, fixed=False))
    exact = OneSite()
    exact.make_exact()
    assert squares(exact, ELBO(), StickingTheLanding(), 1)["guide"] > 0.1


def test_the_bound_is_the_objectives() -> None:
    problem = OneSite()
    log = problem.run(TWO.y, TWO.noise)
    for name in ("elbo", "iwae", "renyi", "chi-square"):
        objective, of_model, _ = BOUNDS[name]
        for gradient in (Pathwise(), DoublyReparameterised(), *([StickingTheLanding()] * (name == "elbo"))):
            bound, raised = gradient.surrogate(objective, log)
            assert raised.shape == bound.shape == TWO.y.shape
            torch.testing.assert_close(bound, of_model(problem.log_w(TWO.y, TWO.noise)), rtol=0, atol=1e-10)


class OwnGuide(ELBO):
    """A bound of its own for the guide, in more than the weights."""

    of_weights = False

    def guide_bound(self, log: LogQuantities) -> Tensor:
        return log.log_lik.mean(0)


@pytest.mark.parametrize(
    ("objective", "gradient", "particles", "named"),
    [
        (OwnGuide(), Pathwise(), 2, "Pathwise: OwnGuide has a bound of its own .*PIWAE"),
        (IWAE(), StickingTheLanding(), 2, "IWAE is not zero; use objective ELBO or AutoGen, .*Doubly"),
        (Capacity(), StickingTheLanding(), 1, "Capacity is not zero; use objective ELBO"),
        (OwnGuide(), StickingTheLanding(), 1, "OwnGuide is not zero; use objective ELBO"),
        (ELBO(0.5), DoublyReparameterised(), 2, "ELBO is not a function of the weights .* Pathwise"),
        (FreeBits(), DoublyReparameterised(), 2, "FreeBits is not a function of the weights .*IWAE"),
        (IWAE(), DoublyReparameterised(), 1, "one particle IWAE is the ELBO.* StickingTheLanding"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(
    objective: Objective, gradient: Gradient, particles: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Inference(objective, Sample(particles), gradient)
