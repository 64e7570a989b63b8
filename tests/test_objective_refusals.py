"""Settings and pairs that an objective refuses, and in which words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from stratagem.inference.expectations import Enumerate, Expectation, Sample
from stratagem.inference.gradients import Exact, GumbelSoftmax, LeaveOneOut, Pathwise, ScoreFunction
from stratagem.inference.inference import Inference
from stratagem.inference.objectives import (
    CIWAE,
    ELBO,
    EM,
    IWAE,
    MIWAE,
    PIWAE,
    AutoGen,
    Capacity,
    FDivergence,
    FreeBits,
    FreeBitsPerDimension,
    KLThreshold,
    Objective,
    Renyi,
)
from stratagem.inference.terms import ExcessReconstruction, NormalisedReconstruction, Term
from stratagem.models import Categorical


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ELBO(-0.1), "ELBO: beta must be .* got -0.1"),
        (lambda: ELBO(math.nan), "ELBO: beta"),
        (lambda: CIWAE(1.1), "CIWAE: beta must be from 0 to 1, got 1.1"),
        (lambda: MIWAE(0), "MIWAE: groups must be at least 1"),
        (lambda: PIWAE(0), "PIWAE: groups must be at least 1"),
        (lambda: Renyi(1), "Renyi: alpha must be finite and not 1, got 1; .*inference=elbo"),
        (lambda: Renyi(math.inf), "Renyi: alpha"),
        (lambda: AutoGen(-1), "AutoGen: m must be"),
        (lambda: Capacity(-1.0), "Capacity: gamma must be"),
        (lambda: Capacity(1.0, -0.5), "Capacity: capacity must be .* got -0.5"),
        (lambda: Capacity(1.0, {"z": -0.5}), "Capacity: capacity must be .* got -0.5"),
        (lambda: FreeBits(-1.0), "FreeBits: bits must be"),
        (lambda: FreeBitsPerDimension(math.inf), "FreeBitsPerDimension: bits must be"),
        (lambda: KLThreshold(-1.0), "KLThreshold: nats must be"),
        (lambda: EM(0), "EM: updates must be at least 1, got 0"),
        (lambda: FDivergence("jensen"), "f is 'jensen'; expected a function or one of jensen_shannon"),
        (lambda: FDivergence(lambda t: t), r"f\(1\) must be 0, got 1"),
        (lambda: FDivergence(lambda t: t.log()), "f must be convex"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Objective], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.parametrize(
    ("objective", "expectation", "gradient", "named"),
    [
        (MIWAE(3), Sample(8), Pathwise(), "MIWAE: 3 groups do not divide the 8 particles .* multiple of 3"),
        (PIWAE(3), Sample(8), Pathwise(), "PIWAE: 3 groups do not divide the 8 particles"),
        (FreeBitsPerDimension(), Sample(2, one_by_one=True), Pathwise(), "set it to false, or use FreeBits"),
        (IWAE(), Enumerate(), Exact(), "IWAE does not go with expectation Enumerate; it needs Sample"),
        (FDivergence(), Sample(2), Pathwise(), "FDivergence does not go .* it needs Enumerate"),
        (EM(), Sample(2), Pathwise(), "EM does not go .* it needs Enumerate"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(
    objective: Objective, expectation: Expectation, gradient: Any, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Inference(objective, expectation, gradient)


@pytest.mark.parametrize("term", [ExcessReconstruction(), NormalisedReconstruction()])
def test_a_reconstruction_has_no_gradient_through_plain_draws(term: Term) -> None:
    with pytest.raises(ValueError, match="no gradient in the guide through draws without one, as of Score"):
        Inference(ELBO(), Sample(4), ScoreFunction(LeaveOneOut()), {"reconstruction": term})
    Inference(ELBO(), Sample(4), Pathwise(), {"reconstruction": term})


def test_free_bits_per_coordinate_refuse_a_categorical() -> None:
    inference = Inference(FreeBitsPerDimension(), Sample(2), GumbelSoftmax())
    with pytest.raises(ValueError, match=r"FreeBitsPerDimension needs every latent to be reparameterised"):
        inference.check({"z": Categorical(3)})
