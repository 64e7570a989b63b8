"""The figures of the benchmark beside LangVAE, on values that can be told by hand."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def measures() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "langvae" / "measures.py"
    spec = importlib.util.spec_from_file_location("measures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bleu_by_hand(measures: ModuleType) -> None:
    right = ["a b c d e"]
    assert measures.bleu(right, right) == pytest.approx(1.0)
    assert measures.bleu(right, ["a b c d f"]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert measures.bleu(["a b c d e f"], right) == pytest.approx(math.exp(1 - 6 / 5))
    assert measures.bleu(["a b c d"], ["a a a a"]) == 0.0
    two = measures.bleu(["a b c d e", "u v w x y"], ["a b c d f", "u v w x y"])
    assert two == pytest.approx((9 / 10 * 7 / 8 * 5 / 6 * 3 / 4) ** 0.25)


def test_exact_passes_over_blanks(measures: ModuleType) -> None:
    assert measures.exact(["a b", "c", "d"], ["a  b ", "c", "e"]) == pytest.approx(2 / 3)


def test_with_the_posterior_every_draw_gives_the_likelihood(measures: ModuleType) -> None:
    rng = np.random.default_rng(0)
    log_lik, log_prior = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    log_p = np.array([-3.0, -40.0, -800.0])
    np.testing.assert_allclose(measures.nll(log_lik, log_prior, log_lik + log_prior - log_p), -log_p)
    np.testing.assert_allclose(measures.divergence(log_prior, log_prior + 2.0), 2.0)


def test_information_is_0_where_all_laws_are_one_and_log_n_where_they_are_apart(measures: ModuleType) -> None:
    one, scale = np.zeros((8, 2)), np.ones((8, 2))
    assert measures.information(one + 0.3, one, scale) == pytest.approx(0.0)
    apart = one + 100 * np.arange(8)[:, None]
    assert measures.information(apart, apart, scale) == pytest.approx(math.log(8))


def test_units_are_active_where_their_means_vary(measures: ModuleType) -> None:
    assert measures.active_units(np.array([[0.0, 0.0], [1.0, 0.01]])) == 1
