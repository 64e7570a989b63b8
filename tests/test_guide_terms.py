"""Terms that fit the guide beside the objective, draw by draw and over all draws of one datum."""

from __future__ import annotations

import itertools
import math

import pytest
import stratagem.inference.terms.guide_term as guide_term
import torch
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Held
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import IWAE
from stratagem.inference.terms import ForwardChiSquare, ForwardKL, PosteriorRegularisation, Term, VarGrad
from torch import Tensor

from .guide_fixtures import GUIDE, datum, pull
from .inference_fixtures import (
    EXACT,
    Tables,
    Toy,
    close,
)


def drawn(lik: Tensor, prior: Tensor, log_q: Tensor, z: Tensor) -> LogQuantities:
    """Draws ``z`` ``(S, B)`` of one datum, each column an outcome."""
    return LogQuantities(lik[z], prior[z], log_q[z], False)


def outcomes(particles: int) -> tuple[Tensor, Tensor]:
    """The multisets of draws of three z, ``(S, C)``, and the logs of the number of orders of each, ``(C,)``."""
    rows = []
    for a in range(particles + 1):
        rows += [(a, b, particles - a - b) for b in range(particles + 1 - a)]
    counts = torch.tensor(rows)  # (C, 3)
    z = torch.stack([torch.arange(3).repeat_interleave(n) for n in counts], 1)
    orders = math.lgamma(particles + 1) - (counts.double() + 1).lgamma().sum(1)
    return z, orders


def expected(term: Term, lik: Tensor, prior: Tensor, logits: Tensor, particles: int) -> tuple[Tensor, Tensor]:
    """``E[value]`` and ``E[gradient in the logits of q]`` over all draws."""
    z, orders = outcomes(particles)
    log_q = logits.log_softmax(0)
    value = term.value(drawn(lik, prior, log_q, z))
    mean = ((orders + log_q[z].sum(0)).exp().detach() * value).sum()
    return mean.detach(), torch.autograd.grad(mean, logits)[0]


def law_of_pulls(term: Term) -> None:
    """On every draw: the loss lowers ``-sum_s pull_s log q(z_s)``, and nothing in the model."""
    lik, prior, logits = datum()
    for particles in (2, 3):
        z = torch.tensor(list(itertools.product(range(3), repeat=particles))).T
        log = drawn(lik, prior, logits.detach().log_softmax(0), z)
        leaves = [x.clone().requires_grad_() for x in (log.log_lik, log.log_prior, log.log_q)]
        value = term.value(LogQuantities(*leaves, False))
        loss = -term.signed_weight(1.0) * value.sum()
        of_lik, of_prior, of_q = torch.autograd.grad(loss, leaves, allow_unused=True)
        torch.testing.assert_close(of_q, -pull(term, log.log_w), **EXACT)
        assert of_lik is None or not of_lik.any(), "the model moves"
        assert of_prior is None or not of_prior.any(), "the model moves"


def law_of_tightness(term: Term) -> None:
    """Where q is the posterior the value is 0 on every draw, and the gradient in expectation."""
    lik, prior, logits = datum(tight=True)
    for particles in (2, 3):
        z, _ = outcomes(particles)
        value = term.value(drawn(lik, prior, logits.log_softmax(0), z))
        torch.testing.assert_close(value, torch.zeros_like(value), **EXACT)
        _, gradient = expected(term, lik, prior, logits, particles)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), **EXACT)


@pytest.mark.parametrize("term", GUIDE)
def test_every_draw_pulls_q_as_the_formula_says(term: type[Term]) -> None:
    law_of_pulls(term())


@pytest.mark.parametrize("term", GUIDE)
def test_the_posterior_is_where_the_guide_stays(term: type[Term]) -> None:
    law_of_tightness(term())


class Pushes(ForwardKL):
    """A wrong sign."""

    sign = 1


class Undetached(ForwardKL):
    """Weights that the guide can move."""

    def divergence(self, log: LogQuantities) -> Tensor:
        return (log.log_target.exp() * (guide_term.log_density(log) - log.log_q)).sum(0)


class PullsTheModel(ForwardKL):
    """A target that is not held."""

    def value(self, log: LogQuantities) -> Tensor:
        return (log.log_target.detach().exp() * log.log_w).sum(0)


class NotSquared(ForwardChiSquare):
    """The weights of the forward KL."""

    def divergence(self, log: LogQuantities) -> Tensor:
        return -(log.log_target.detach().exp() * log.log_q).sum(0)


class Twice(ForwardChiSquare):
    """The draws' law left out of the gradient of the weights."""

    def divergence(self, log: LogQuantities) -> Tensor:
        return (2 * (guide_term.log_density(log) - log.log_q)).logsumexp(0) - math.log(len(log.log_q))


class Uncentred(VarGrad):
    """The mean square in place of the variance, whose expected gradient is the same."""

    def divergence(self, log: LogQuantities) -> Tensor:
        return 0.5 * (log.log_w**2).mean(0)


class Biased(VarGrad):
    """A variance that divides by S."""

    def divergence(self, log: LogQuantities) -> Tensor:
        return 0.5 * log.log_w.var(0, correction=0)


@pytest.mark.parametrize("wrong", [Pushes, Undetached, PullsTheModel, NotSquared, Twice, Uncentred, Biased])
def test_the_law_of_pulls_tells_wrong_terms(wrong: type[Term]) -> None:
    with pytest.raises(AssertionError):
        law_of_pulls(wrong())


@pytest.mark.parametrize("wrong", [Uncentred, NotSquared])
def test_the_law_of_tightness_tells_wrong_terms(wrong: type[Term]) -> None:
    with pytest.raises(AssertionError):
        law_of_tightness(wrong())


def law_of_no_bias(term: Term) -> None:
    """``E[half the variance]`` and its gradient are those by enumeration, and the gradient is that of KL(q || p)."""
    lik, prior, logits = datum()
    log_q, target = logits.log_softmax(0), (lik + prior).log_softmax(0)
    reverse = (log_q.exp() * (log_q - target)).sum()
    (truth,) = torch.autograd.grad(reverse, logits, retain_graph=True)
    assert truth.abs().max() > 0.01
    log_w = (lik + prior - log_q).detach()
    mean = (log_q.exp() * log_w).sum()
    half = 0.5 * (log_q.exp() * (log_w - mean) ** 2).sum()
    for particles in (2, 3, 8):
        value, gradient = expected(term, lik, prior, logits, particles)
        torch.testing.assert_close(value, half.detach(), **EXACT)
        torch.testing.assert_close(gradient, truth, **EXACT)


def test_the_log_variance_has_the_reverse_kls_gradient_without_bias() -> None:
    law_of_no_bias(VarGrad())


@pytest.mark.parametrize("wrong", [Uncentred, Biased, ForwardKL])
def test_the_law_of_no_bias_tells_wrong_terms(wrong: type[Term]) -> None:
    with pytest.raises(AssertionError):
        law_of_no_bias(wrong())


@pytest.mark.parametrize("term", [ForwardKL, ForwardChiSquare])
def test_self_normalised_weights_are_biased_at_the_rate_of_one_over_s(term: type[Term]) -> None:
    lik, prior, logits = datum(3)
    column = LogQuantities(lik[:, None], prior[:, None], logits.log_softmax(0)[:, None], True)
    exact = term().value(column)[0]
    (truth,) = torch.autograd.grad(exact, logits)
    off_value, off_gradient = [], []
    for particles in (16, 32, 64):
        value, gradient = expected(term(), lik, prior, logits, particles)
        off_value.append(particles * (value - exact.detach()))
        off_gradient.append(particles * (gradient - truth))
    for off in (off_value, off_gradient):
        assert off[-1].abs().max() > 0.05, "without bias this says nothing"
        steps = [(b - a).abs().max() / b.abs().max() for a, b in itertools.pairwise(off)]
        assert steps[-1] < 0.03
        assert steps[-1] < 0.6 * steps[-2], "S times the bias settles, half as far off at twice the draws"


def test_one_draw_gives_no_gradient_in_expectation() -> None:
    for term in (ForwardKL(), ForwardChiSquare()):
        value, gradient = expected(term, *datum(), 1)
        torch.testing.assert_close(value, torch.zeros_like(value), **EXACT)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), **EXACT)


@pytest.mark.parametrize("term", [ForwardKL, ForwardChiSquare])
def test_sampled_values_lie_between_zero_and_the_log_of_the_draws(term: type[Term]) -> None:
    lik, prior, logits = datum()
    z, _ = outcomes(6)
    value = term().value(drawn(lik, prior, logits.log_softmax(0), z))
    assert (value > -1e-12).all()
    assert value.max() > 0.1
    far = term().value(drawn(lik + torch.tensor([0.0, 0.0, 90.0]), prior, logits.log_softmax(0), z))
    assert (far < math.log(6) + 1e-12).all()
    assert far.max() > math.log(6) - 1e-6


def by_hand(term: Term, t: Tables) -> Tensor:
    """The divergence over all values of z, ``(B,)``, with the model held fixed."""
    q, p = t.log_q.exp(), t.log_posterior.detach().exp()
    if isinstance(term, ForwardKL):
        return (p * (p.log() - q.log())).sum(0)
    if isinstance(term, ForwardChiSquare):
        return torch.log(1 + ((p - q) ** 2 / q).sum(0))
    w = p.log() - q.log()
    return 0.5 * (q * w**2).sum(0) - 0.5 * (q * w).sum(0) ** 2


@pytest.mark.parametrize("term", GUIDE)
def test_enumerated_divergences_are_those_written_out(toy: Toy, term: type[Term]) -> None:
    log, tables = Enumerate()(toy.model, toy.guide, toy.batch), toy.tables()
    value, truth = term().value(log), by_hand(term(), tables)
    torch.testing.assert_close(value, truth, **EXACT)
    if term is VarGrad:
        q, p = tables.log_q, tables.log_posterior.detach()
        truth = (q.exp() * (q - p)).sum(0)
    gradients = toy.gradients(truth.sum())
    assert max(g.abs().max() for g in gradients.values()) > 1e-3
    close(toy.gradients(value.sum()), gradients)
    assert (by_hand(ForwardChiSquare(), tables) > by_hand(ForwardKL(), tables)).all(), (
        "by Jensen's inequality"
    )


@pytest.mark.parametrize("term", GUIDE)
def test_values_without_probability_count_nothing(term: type[Term]) -> None:
    lik = torch.tensor([[-3.0], [-2.0], [-5.0]], dtype=torch.float64)
    prior = torch.tensor([[0.5], [0.5], [0.0]], dtype=torch.float64).log()
    log_q = torch.tensor([[0.25], [0.75], [0.0]], dtype=torch.float64).log().requires_grad_()
    for measure in (term(), PosteriorRegularisation()):
        value = measure.value(LogQuantities(lik, prior, log_q, True))
        torch.testing.assert_close(value, measure.value(LogQuantities(lik[:2], prior[:2], log_q[:2], True)))
        if value.requires_grad:
            assert torch.autograd.grad(value.sum(), log_q)[0].isfinite().all()


@pytest.mark.parametrize("term", GUIDE)
def test_a_single_draw_is_refused(term: type[Term]) -> None:
    with pytest.raises(
        ValueError, match=rf"{term.__name__}: a single draw .* num_particles=1; use 2 or more"
    ):
        Inference(IWAE(), Sample(1), Held(), {"guide": term()})
