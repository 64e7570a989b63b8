"""A gradient for the model and one for the guide from one run of the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import DoublyReparameterised, Gradient, Pathwise, two_paths
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities, Run
from stratagem.inference.objectives import ELBO, IWAE, PIWAE
from stratagem.inference.terms import Term
from torch import Tensor

from .gaussian_fixtures import Chain, Noise, OneSite, Problem, Quadrature, batch_of, found
from .inference_fixtures import close


def test_the_curvature_of_the_importance_weighted_bound_leaves_the_squares_of_the_weights() -> None:
    log_w = torch.randn(5, 3, dtype=torch.float64)
    none = torch.zeros_like(log_w)
    log = LogQuantities(log_w, none, none, False)
    first, second = two_paths.slope_and_curvature(IWAE().bound, log)
    weights = log_w.softmax(0)
    close({"w": first, "w2": first - second}, {"w": weights, "w2": weights**2})
    assert (two_paths.slope_and_curvature(ELBO().bound, log)[1] == 0).all()


def lost_particle(gradient: Gradient) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of PIWAE where one particle's weight in the model's bound is below the least positive number."""
    problem, y = OneSite(), torch.tensor([0.4], dtype=torch.float64)
    problem.set_guide(r=0.2)
    noise = {"z": torch.tensor([[0.3], [40.0]], dtype=torch.float64)}
    assert problem.log_w(y, noise).softmax(0)[1] == 0
    q = Quadrature(y, noise, torch.ones(1, dtype=torch.float64))
    return found(problem, PIWAE(2), gradient, q), found(problem, PIWAE(2), gradient, q, alone=False)


@pytest.mark.parametrize("gradient", [Pathwise(), DoublyReparameterised()], ids=["pathwise", "dreg"])
def test_a_particle_without_weight_in_the_model_still_teaches_the_guide(
    monkeypatch: pytest.MonkeyPatch, gradient: Gradient
) -> None:
    scaled, whole = lost_particle(gradient)
    assert abs(whole["guide.b"]) > 10
    for name in whole:
        torch.testing.assert_close(scaled[name], whole[name], rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(two_paths, "_above_rounding", lambda model, guide: model)  # noqa: ARG005
    scaled, _ = lost_particle(gradient)
    assert abs(scaled["guide.b"] - whole["guide.b"]) > 1


class Beside(Term):
    """Reads all that a term can: the likelihood, the prior, q and the draws."""

    expectations = (Sample,)
    pointwise = False

    def value(self, log: LogQuantities) -> Tensor:
        moved = log.log_lik + 0.3 * log.log_prior - 0.7 * log.log_q
        return (moved + sum(site.z**2 for site in log.sites.values())).mean(0)


def with_term(problem: Problem, gradient: Gradient, always_alone: bool = False) -> None:
    """The law: a term's gradient is its own, whatever the objective's does to the draws."""
    y = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64)
    noise = {name: torch.randn(4, 3, dtype=torch.float64) for name in problem.sites}
    inference = Inference(PIWAE(2), Sample(4), gradient, {"beside": Beside(0.6)})
    with Noise(noise):
        if always_alone:
            log = Sample(4)(problem.model, problem.guide, batch_of(y), Run(alone=True))
            both = inference.gradient.surrogate(PIWAE(2), log)[1] + 0.6 * Beside().value(log)
        else:
            both = -inference(problem.model, problem.guide, batch_of(y)).surrogate
    _, raised = gradient.surrogate(PIWAE(2), problem.run(y, noise))
    apart = problem.gradients(raised.mean())
    of_term = problem.gradients(0.6 * Beside().value(problem.run(y, noise)).mean())
    close(problem.gradients(both.mean()), {name: apart[name] + of_term[name] for name in apart})


@pytest.mark.parametrize("problem", [OneSite, Chain])
@pytest.mark.parametrize("gradient", [Pathwise(), DoublyReparameterised()], ids=["pathwise", "dreg"])
def test_a_term_beside_the_objective_keeps_its_gradient(
    problem: Callable[[], Problem], gradient: Gradient
) -> None:
    with_term(problem(), gradient)
    with pytest.raises(AssertionError):
        with_term(problem(), gradient, always_alone=True)
