"""Measures of disentanglement: latents built to score 1 and 0, and published formulas by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from stratagem.inference.probes import disentanglement
from stratagem.inference.probes.disentanglement import dci, info_mec, mig, modularity, sap, z_diff, z_min_var
from stratagem.inference.probes.disentanglement.dci import _from_importance
from stratagem.inference.probes.disentanglement.information import entropies, mutual_information

Measure = Callable[..., dict[str, float]]
MEASURES: dict[str, Measure] = {name: getattr(disentanglement, name) for name in disentanglement.__all__}
measures = pytest.mark.parametrize("name", MEASURES)


def factors_of(num: int = 3000, seed: int = 0) -> np.ndarray:
    """Three independent factors of 2, 3 and 4 values."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(k, size=num) for k in (2, 3, 4)], 1)


@measures
def test_a_coordinate_for_each_factor_is_perfect(name: str) -> None:
    factors = factors_of()
    noise = np.random.default_rng(1).normal(0, 0.02, factors.shape)
    for score in MEASURES[name](factors + noise, factors).values():
        assert score > 0.95
    for score in MEASURES[name](factors.astype(float), factors).values():
        assert score > 0.98


@measures
def test_coordinates_that_know_nothing_score_nothing(name: str) -> None:
    factors, z = factors_of(), np.random.default_rng(1).normal(size=(3000, 4))
    found = MEASURES[name](z, factors)
    for figure, score in found.items():
        if figure != "dci/disentanglement" and figure != "dci/completeness":
            assert -0.01 <= score < 0.12, figure
        else:
            assert score < 0.3, "importance of noise is spread at random"


@measures
def test_a_rotation_entangles(name: str) -> None:
    """As much is known of the factors, by no coordinate alone."""
    factors = factors_of()
    z = factors - factors.mean(0)
    z = z / z.std(0)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    straight, turned = MEASURES[name](z, factors), MEASURES[name](z @ turn, factors)
    entangled = [k for k in straight if k not in ("dci/informativeness", "info_e")]
    for figure in entangled:
        assert turned[figure] < straight[figure] - 0.05, figure
    assert turned.get("info_e", 1.0) > 0.9


def test_information_of_a_small_table_is_that_by_hand() -> None:
    """z = v on six of eight data: I = log 2 - H(1/4)."""
    v = np.array([0, 0, 0, 0, 1, 1, 1, 1])[:, None]
    z = np.array([0, 0, 0, 1, 1, 1, 1, 0])[:, None]
    noise = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert mutual_information(z, v)[0, 0] == pytest.approx(math.log(2) - noise)
    assert entropies(v)[0] == pytest.approx(math.log(2))


def test_the_gap_is_between_the_two_best_coordinates() -> None:
    """[Chen et al. 2018, eq. 6]: of a whole copy and of a copy on six of eight data, whose information is known."""
    v = np.tile([0, 0, 0, 0, 1, 1, 1, 1], 50)[:, None]
    half = np.tile([0, 0, 0, 1, 1, 1, 1, 0], 50)
    noise = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    z = np.stack([v[:, 0], half, np.zeros(400)], 1).astype(float)
    assert mig(z, v)["mig"] == pytest.approx(1 - (math.log(2) - noise) / math.log(2))
    assert mig(z[:, :1], v)["mig"] == pytest.approx(1)
    assert mig(z[:, [0, 0]], v)["mig"] == pytest.approx(0), "two copies leave no gap"


def test_a_coordinate_of_two_factors_is_no_module() -> None:
    """[Ridgeway & Mozer 2018, eq. 2]: z tells both of two factors equally, and a second coordinate one of them."""
    rng = np.random.default_rng(0)
    v = rng.integers(2, size=(20_000, 2))
    both = v[:, 0] + 2 * v[:, 1]
    assert modularity(both[:, None].astype(float), v)["modularity"] == pytest.approx(0, abs=0.01)
    z = np.stack([both, v[:, 1]], 1).astype(float)
    assert modularity(z, v)["modularity"] == pytest.approx(0.5, abs=0.01)


def test_importance_is_read_by_its_entropy() -> None:
    """[Eastwood & Williams 2018, section 2]: rows by hand."""
    even = _from_importance(np.full((2, 2), 0.5))
    assert even["dci/disentanglement"] == pytest.approx(0, abs=1e-6)
    assert even["dci/completeness"] == pytest.approx(0, abs=1e-6)
    mixed = _from_importance(np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]]))
    assert mixed["dci/disentanglement"] == pytest.approx(1)
    assert mixed["dci/completeness"] == pytest.approx((1 + 1 - math.log(2) / math.log(3)) / 2)


def test_compact_and_modular_are_two_things() -> None:
    """A factor twice is modular and not compact; two factors in one coordinate are compact, each, and not modular."""
    factors = factors_of()[:, 1:]
    twice = np.stack([factors[:, 0], factors[:, 0], factors[:, 1]], 1).astype(float)
    found = info_mec(twice, factors)
    assert found["info_m"] > 0.98
    assert found["info_c"] == pytest.approx((0.75 - 1 / 3) / (1 - 1 / 3), abs=0.02)
    together = info_mec((factors[:, 0] + 3 * factors[:, 1])[:, None].astype(float), factors)
    assert together["info_m"] < 0.1
    assert together["info_c"] == 1


def test_what_a_linear_reader_cannot_read_is_not_explicit() -> None:
    """The parity of two bits is in z, and in no linear function of it."""
    bits = np.random.default_rng(0).integers(2, size=(4000, 2))
    parity = (bits.sum(1) % 2)[:, None]
    assert info_mec(bits.astype(float), parity)["info_e"] == pytest.approx(0, abs=0.01)
    assert info_mec(bits.astype(float), bits)["info_e"] > 0.98
    assert sap(bits.astype(float), parity)["sap"] < 0.06


def test_measures_do_not_depend_on_the_scale_of_a_coordinate() -> None:
    factors = factors_of(1000)
    z = factors + np.random.default_rng(1).normal(0, 0.3, factors.shape)
    for measure in (mig, modularity, sap, z_diff, z_min_var, dci):
        before, after = measure(z, factors), measure(z * [1e-3, 1.0, 1e3], factors)
        assert after == pytest.approx(before, abs=0.03)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "shapes": (lambda: mig(np.zeros(3), np.zeros((3, 1))), r"z of shape \(N, D\) .* got \(3,\) and \(3, 1\)"),
    "constant": (
        lambda: dci(np.zeros((4, 1)), np.zeros((4, 1))),
        "factor 0 is the same everywhere; leave it out",
    ),
    "not finite": (lambda: sap(np.full((2, 1), np.nan), np.array([[0], [1]])), "expected z that is finite"),
    "one factor": (
        lambda: modularity(np.zeros((2, 1)), np.array([[0], [1]])),
        "needs two factors or more, got 1",
    ),
    "one factor of pairs": (
        lambda: z_diff(np.zeros((2, 1)), np.array([[0], [1]])),
        "z_diff needs two factors",
    ),
    "no pair": (
        lambda: z_min_var(np.zeros((2, 1)), np.array([[0, 1], [1, 0]])),
        "z_min_var: no two data agree in factor 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make()
