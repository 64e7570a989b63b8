"""The InfoVAE against its formula written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from stratagem.inference.aggregate import aggregate_kl
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact, GumbelSoftmax
from stratagem.inference.inference import Inference
from stratagem.inference.objectives import ELBO, InfoVAE
from torch import Tensor

from .aggregate_fixtures import (
    WRITTEN,
    Written,
)
from .inference_fixtures import EXACT, Toy, close

INFO = {"alpha": 0.25, "lambda_": 1.5}


def info_vae(log_joint: Tensor, log_lik: Tensor, log_q: Tensor, written: Written) -> Tensor:
    log_prior = log_joint - log_lik
    each = (log_q.exp() * (log_lik - 0.75 * (log_q - log_prior))).sum(0)
    return each - 0.75 * written(log_q, log_prior)


@pytest.mark.parametrize("divergence", ["kl", "mmd"])
def test_the_info_vae_is_its_formula(toy: Toy, divergence: str) -> None:
    written = WRITTEN[f"aggregate {divergence}"][1]
    t = toy.tables()
    expected = info_vae(t.log_prior + t.log_lik, t.log_lik, t.log_q, written)
    truth = toy.gradients(-expected.mean())

    def holds(objective: InfoVAE) -> None:
        loss = Inference(objective, Enumerate(), Exact())(toy.model, toy.guide, toy.batch)
        torch.testing.assert_close(loss.bound, expected.detach(), **EXACT)
        close(toy.gradients(loss.surrogate), truth)

    holds(InfoVAE(**INFO, divergence=divergence))
    for wrong in ({"alpha": 0.5, "lambda_": 1.25}, {"alpha": 0.25, "lambda_": 1.4}):
        with pytest.raises(AssertionError):
            holds(InfoVAE(**wrong, divergence=divergence))
    with torch.no_grad():
        loss = Inference(InfoVAE(**INFO, divergence=divergence), Sample(2), GumbelSoftmax())(
            toy.model, toy.guide, toy.batch
        )
    assert loss.bound.isfinite().all()


def test_the_info_vae_goes_from_the_elbo_to_free_posteriors(toy: Toy) -> None:
    log = Enumerate()(toy.model, toy.guide, toy.batch)
    torch.testing.assert_close(InfoVAE(0.0, 1.0, "kl").bound(log), ELBO().bound(log), **EXACT)
    free = InfoVAE(1.0, 2.0, "kl").bound(log)
    torch.testing.assert_close(free, log.expect_q(log.log_lik) - 2 * aggregate_kl(log), **EXACT)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: InfoVAE(alpha=1.5), "alpha <= 1"),
        (lambda: InfoVAE(alpha=0.0, lambda_=0.5), "lambda_ >= 1 - alpha"),
        (lambda: InfoVAE(alpha=float("nan")), "alpha <= 1"),
        (lambda: InfoVAE(divergence="js"), "divergence kl or mmd, got 'js'"),
    ],
)
def test_settings_without_meaning_are_refused(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
