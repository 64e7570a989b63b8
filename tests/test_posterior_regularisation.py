"""The posterior pulled to what the guide says."""

from __future__ import annotations

import pytest
import torch
from stratagem.inference.expectations import Enumerate
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.terms import PosteriorRegularisation, Term
from torch import Tensor

from .guide_fixtures import datum
from .inference_fixtures import (
    EXACT,
    Toy,
    close,
)


def law_of_the_regularised_posterior(toy: Toy, term: Term) -> None:
    """``KL(q || p(z|x,y))``, in the decoder alone."""
    log, t = Enumerate()(toy.model, toy.guide, toy.batch), toy.tables()
    value = term.value(log)
    q = t.log_q.detach()
    posterior = (t.log_lik + t.log_prior.detach()).log_softmax(0)
    truth = (q.exp() * (q - posterior)).sum(0)
    torch.testing.assert_close(value, truth, **EXACT)
    gradients = toy.gradients(truth.sum())
    close(toy.gradients(-term.signed_weight(1.0) * value.sum()), gradients)
    moved = {n for n, g in gradients.items() if g.abs().max() > 1e-6}
    assert moved
    assert not any(".routers." in n or n.startswith("guide.") or ".posterior." in n for n in moved), moved


def test_the_posterior_is_pulled_to_the_guide_in_the_decoder_alone(toy: Toy) -> None:
    law_of_the_regularised_posterior(toy, PosteriorRegularisation())


class Backwards(PosteriorRegularisation):
    def value(self, log: LogQuantities) -> Tensor:
        return (log.log_posterior.exp() * (log.log_posterior - log.log_q.detach())).sum(0)


class MovesTheGuide(PosteriorRegularisation):
    def value(self, log: LogQuantities) -> Tensor:
        posterior = (log.log_lik + log.log_prior.detach()).log_softmax(0)
        return (log.log_q.exp() * (log.log_q - posterior)).sum(0)


class MovesTheRouter(PosteriorRegularisation):
    def value(self, log: LogQuantities) -> Tensor:
        return (log.log_q.detach().exp() * (log.log_q.detach() - log.log_posterior)).sum(0)


class PushesAway(PosteriorRegularisation):
    sign = 1


@pytest.mark.parametrize("wrong", [Backwards, MovesTheGuide, MovesTheRouter, PushesAway])
def test_the_law_of_the_regularised_posterior_tells_wrong_terms(toy: Toy, wrong: type[Term]) -> None:
    with pytest.raises(AssertionError):
        law_of_the_regularised_posterior(toy, wrong())


def test_at_the_posterior_nothing_is_regularised() -> None:
    lik, prior, logits = datum(tight=True)
    lik = lik[:, None].requires_grad_()
    value = PosteriorRegularisation().value(
        LogQuantities(lik, prior[:, None], logits.log_softmax(0)[:, None], True)
    )
    torch.testing.assert_close(value, torch.zeros_like(value), **EXACT)
    torch.testing.assert_close(torch.autograd.grad(value.sum(), lik)[0], torch.zeros_like(lik), **EXACT)
