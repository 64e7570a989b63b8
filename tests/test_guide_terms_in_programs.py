"""Terms that fit the guide, in whole inference algorithms on programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import stratagem.inference.terms.guide_term as guide_term
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact, Gradient, GumbelSoftmax, Held, Pathwise
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, IWAE, MarginalLikelihood, Objective
from stratagem.inference.terms import ForwardChiSquare, ForwardKL, Term, VarGrad
from stratagem.models import Batch
from torch import Tensor

from .guide_fixtures import GUIDE, pull
from .inference_fixtures import (
    EXACT,
    Forced,
    GaussianGuide,
    LinearGaussian,
    Toy,
    close,
    gaussian_batch,
    gaussian_elbo,
    tuples_of,
)


def scores(toy: Toy, log_p: Tensor) -> list[dict[str, Tensor]]:
    """Gradients of each of ``log_p`` ``(P,)``."""
    names, values = zip(*toy.parameters.items(), strict=True)
    rows = [torch.autograd.grad(at, values, retain_graph=True, materialize_grads=True) for at in log_p]
    return [dict(zip(names, row, strict=True)) for row in rows]


def law_of_two_halves(toy: Toy, objective: Objective, gradient: Gradient, terms: dict[str, Term]) -> None:
    """On every draw: ``-sum_s v_s d log p(y,z_s)`` in the model, the term's pulls in the guide, and nothing else."""
    tables = toy.tables()
    log_joint, log_q = (tables.log_prior + tables.log_lik)[:, 0], tables.log_q[:, 0]
    of_model, of_guide = scores(toy, log_joint), scores(toy, log_q)
    log_w = (log_joint - log_q).detach()
    inference = Inference(objective, Sample(2), gradient, terms)
    for z in tuples_of({name: latent.num_features for name, latent in toy.model.latents.items()}, 2):
        first, *rest = z.values()
        at = first + 3 * rest[0] if rest else first
        if at[0] > at[1]:
            continue  # the other order of the same draws
        v = log_w[at].softmax(0) if isinstance(objective, IWAE) else torch.full_like(log_w[at], 0.5)
        u = sum((pull(t, log_w[at][:, None])[:, 0] for t in terms.values()), torch.zeros_like(v))
        with Forced(z):
            found = toy.gradients(inference(toy.model, toy.guide, toy.rows[0]).surrogate)
        draws = list(enumerate(at.tolist()))
        close(
            found, {n: -sum(v[s] * of_model[k][n] + u[s] * of_guide[k][n] for s, k in draws) for n in found}
        )


@pytest.mark.parametrize(
    ("objective", "term"), [(ELBO, None), (IWAE, ForwardKL), (IWAE, ForwardChiSquare), (IWAE, VarGrad)]
)
def test_held_fits_the_model_and_the_term_the_guide(
    toy: Toy, objective: type[Objective], term: type[Term] | None
) -> None:
    law_of_two_halves(toy, objective(), Held(), {} if term is None else {"guide": term()})


class Leaky(Held):
    """q takes part in the objective's gradient."""

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log)
        return bound, bound


class Pushes(ForwardKL):
    """A wrong sign."""

    sign = 1


@pytest.mark.parametrize("toy", ["one"], indirect=True)
@pytest.mark.parametrize(("gradient", "term"), [(Leaky(), ForwardKL()), (Held(), Pushes())])
def test_the_law_of_two_halves_tells_wrong_estimators(toy: Toy, gradient: Gradient, term: Term) -> None:
    with pytest.raises(AssertionError):
        law_of_two_halves(toy, IWAE(), gradient, {"guide": term})


def law_of_fixed_draws(term: Term) -> None:
    """Draws that carry a gradient pull q as draws that do not."""
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    log = Sample(4)(model, guide, batch)
    assert log.sites["z"].z.requires_grad
    law = torch.distributions.Normal(guide.a * batch.features["y"] + guide.b, guide.r.exp())
    log_q = law.log_prob(log.sites["z"].z.detach())
    truth = -(pull(term, log.log_w.detach()) * log_q).sum()
    parameters = [*guide.parameters()]
    found = torch.autograd.grad(term.value(log).sum(), [*parameters, *model.parameters()], allow_unused=True)
    for gradient, wanted in zip(found, torch.autograd.grad(truth, parameters), strict=False):
        torch.testing.assert_close(gradient, wanted, **EXACT)
    assert not any(gradient is not None and gradient.any() for gradient in found[3:])


@pytest.mark.parametrize("term", GUIDE)
def test_reparameterised_draws_are_held_fixed(term: type[Term], monkeypatch: pytest.MonkeyPatch) -> None:
    law_of_fixed_draws(term())
    monkeypatch.setattr(guide_term, "_at_fixed_values", lambda log: log.log_q)
    with pytest.raises(AssertionError):
        law_of_fixed_draws(term())


class Given(Messenger):
    """Gives the latent z the values ``(S, B)`` in place of draws."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z = z

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] == "z":
            msg["value"], msg["done"] = self.z, True


def test_the_log_variance_of_continuous_draws_has_the_gradient_of_the_elbo() -> None:
    """``log_w`` is quadratic in z, so that the expectation over two draws is a finite sum (Gauss and Hermite)."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(6))
    noise = torch.cartesian_prod(nodes, nodes).T  # (2, 36)
    p = torch.cartesian_prod(weights, weights).prod(1) / (2 * torch.pi)
    model, guide, y = LinearGaussian(), GaussianGuide(), torch.tensor([0.4], dtype=torch.float64)
    ids = torch.zeros(36, 1, dtype=torch.long)
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), features={"y": y.expand(36)})
    z = (guide.a * y + guide.b + guide.r.exp() * noise).detach()
    with Given(z):
        value = VarGrad().value(Sample(2)(model, guide, batch))
    found = torch.autograd.grad((p * value).sum(), [*guide.parameters()])
    truth = torch.autograd.grad(-gaussian_elbo(model, guide, y).sum(), [*guide.parameters()])
    for gradient, wanted in zip(found, truth, strict=True):
        assert wanted.abs() > 0.05
        torch.testing.assert_close(gradient, wanted, **EXACT)


class Copied(Held):
    copies = 2


@pytest.mark.parametrize("gradient", [Copied(), GumbelSoftmax(), GumbelSoftmax(hard=True)])
@pytest.mark.parametrize("term", GUIDE)
def test_draws_that_are_not_plain_are_refused(gradient: Gradient, term: type[Term]) -> None:
    named = (
        rf"{term.__name__}: needs plain draws .* {type(gradient).__name__} draws others; use gradient Held"
    )
    with pytest.raises(ValueError, match=named):
        Inference(ELBO(), Sample(2), gradient, {"guide": term()})


@pytest.mark.parametrize(
    "others",
    [(MarginalLikelihood, Enumerate, Exact), (ELBO, Enumerate, Exact), (IWAE, lambda: Sample(2), Held)],
)
@pytest.mark.parametrize("term", GUIDE)
def test_values_without_gradients_are_the_same(
    toy: Toy, others: tuple[Callable[[], Any], ...], term: type[Term]
) -> None:
    inference = Inference(*(part() for part in others), {"guide": term(0.5)})
    torch.manual_seed(1)
    with torch.no_grad():
        plain = inference(toy.model, toy.guide, toy.batch)
    torch.manual_seed(1)
    loss = inference(toy.model, toy.guide, toy.batch)
    torch.testing.assert_close(plain.terms["guide"], loss.terms["guide"], **EXACT)
    torch.testing.assert_close(loss.objective, loss.bound.mean() - 0.5 * loss.terms["guide"].mean(), **EXACT)


def test_a_reparameterised_elbo_may_have_the_forward_kl_beside_it() -> None:
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    loss = Inference(ELBO(), Sample(4), Pathwise(), {"guide": ForwardKL()})(model, guide, batch)
    assert all(g.abs() > 0 for g in torch.autograd.grad(loss.surrogate, [*guide.parameters()]))
