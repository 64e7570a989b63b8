"""Weights over a fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stratagem.inference.corruptions import WordDropout
from stratagem.inference.gradients import GumbelSoftmax
from stratagem.inference.objectives import ELBO, Capacity
from stratagem.inference.schedules import Constant, Cosine, Cyclical, Linear, Piecewise, Schedule, Until
from stratagem.inference.terms import ForwardKL, MutualInformation

WEIGHTS = st.floats(0.0, 100.0)
SHARES = st.floats(0.0, 1.0)


def test_a_line_is_flat_before_and_after() -> None:
    schedule = Linear(2.0, 0.5, begin=0.25, until=0.75)
    weights = [schedule.at(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert weights == pytest.approx([2.0, 2.0, 1.25, 0.5, 0.5])


def test_a_constant_is_a_constant() -> None:
    assert {Constant(0.3).at(share) for share in (0.0, 0.4, 1.0)} == {0.3}


def test_half_a_cosine_is_level_at_its_ends_and_steepest_midway() -> None:
    schedule = Cosine(2.0, 0.5, begin=0.25, until=0.75)
    shares = (0.0, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
    expected = [1.25 + 0.75 * math.cos(angle * math.pi / 4) for angle in (0, 0, 1, 2, 3, 4, 4)]
    assert [schedule.at(share) for share in shares] == pytest.approx(expected)


def test_each_cycle_rises_and_stays_and_the_last_ends_at_the_end() -> None:
    schedule = Cyclical(0.0, 1.0, cycles=2, rise=0.5)
    shares = (0.0, 0.125, 0.25, 0.4, 0.5, 0.625, 0.75, 0.9, 1.0)
    assert [schedule.at(share) for share in shares] == pytest.approx([0, 0.5, 1, 1, 0, 0.5, 1, 1, 1])


def test_one_weight_and_then_another() -> None:
    schedule = Until(1.0, 0.2, share=0.4)
    assert [schedule.at(share) for share in (0.0, 0.39, 0.4, 1.0)] == [1.0, 1.0, 0.2, 0.2]


@given(WEIGHTS, WEIGHTS, SHARES, SHARES, st.integers(1, 6), st.floats(0.05, 1.0), SHARES)
def test_weights_stay_between_the_two_and_begin_and_end_there(
    start: float, end: float, begin: float, until: float, cycles: int, rise: float, share: float
) -> None:
    assume(begin < until)
    schedules: list[Schedule] = [
        Linear(start, end, begin, until),
        Cosine(start, end, begin, until),
        Cyclical(start, end, cycles, rise),
    ]
    if 0 < until < 1:
        schedules.append(Until(start, end, until))
    for schedule in schedules:
        assert schedule.at(0.0) == start
        assert schedule.at(1.0) == pytest.approx(end, abs=1e-12)
        assert min(start, end) - 1e-12 <= schedule.at(share) <= max(start, end) + 1e-12
        assert MutualInformation(schedule).signed_weight(share) == schedule.at(share)


@given(WEIGHTS, WEIGHTS, st.integers(1, 6), st.floats(0.05, 1.0), SHARES)
def test_steps_are_as_small_as_the_shares_but_at_the_end_of_a_cycle(
    start: float, end: float, cycles: int, rise: float, share: float
) -> None:
    step = 1e-6
    rise_of = {
        Linear(start, end): 1.0,
        Cosine(start, end): math.pi / 2,
        Cyclical(start, end, cycles, rise): cycles / rise,
    }
    for schedule, steepest in rise_of.items():
        if isinstance(schedule, Cyclical) and abs(share * cycles - round(share * cycles)) < 2 * step * cycles:
            continue
        change = abs(schedule.at(share + step) - schedule.at(share))
        assert change <= 1.001 * steepest * abs(end - start) * step + 1e-9
    schedule = Cyclical(start, end, cycles, rise)
    slack = 2 * cycles / rise * abs(end - start) * 1e-9 + 1e-9
    for cycle in range(1, cycles):
        assert schedule.at(cycle / cycles - 1e-9) == pytest.approx(end, abs=slack)
        assert schedule.at(cycle / cycles + 1e-9) == pytest.approx(start, abs=slack)


@pytest.mark.parametrize("kind", [Linear, Cosine])
@pytest.mark.parametrize(("begin", "until"), [(0.5, 0.5), (0.6, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_shares_out_of_order_are_refused(kind: type[Linear], begin: float, until: float) -> None:
    with pytest.raises(ValueError, match=f"schedule {kind.__name__.lower()}: .* begin"):
        kind(1.0, 0.0, begin, until)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Cyclical(0.0, 1.0, cycles=0), "cycles=0"),
        (lambda: Cyclical(0.0, 1.0, cycles=1.5), "cycles=1.5"),
        (lambda: Cyclical(0.0, 1.0, rise=0.0), "rise=0.0"),
        (lambda: Cyclical(0.0, 1.0, rise=1.1), "rise=1.1"),
        (lambda: Until(1.0, 0.0, share=0.0), "share=0.0"),
        (lambda: Until(1.0, 0.0, share=1.0), "share=1.0"),
    ],
)
def test_cycles_and_shares_without_meaning_are_refused(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


def test_a_term_has_its_sign_and_the_weight_of_the_share() -> None:
    assert MutualInformation(Linear(1.0, 0.0)).signed_weight(0.25) == pytest.approx(0.75)
    assert ForwardKL(2.0).signed_weight(0.5) == -2.0


class Dip(Schedule):
    """Below zero for a moment."""

    def __init__(self, width: float) -> None:
        self.width = width

    def at(self, share: float) -> float:
        return -1.0 if abs(share - 0.501) < self.width else 1.0


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), Linear(1.0, -0.1), Dip(0.01)])
def test_a_negative_or_infinite_weight_is_refused(weight: float | Schedule) -> None:
    with pytest.raises(ValueError, match="MutualInformation"):
        MutualInformation(weight)


def test_what_a_schedule_gives_in_between_is_checked_wherever_it_goes() -> None:
    dips = Piecewise([[0.0, 1.0], [0.5, -1.0], [1.0, 1.0]])
    for make in (ELBO, lambda s: Capacity(capacity=s), GumbelSoftmax, WordDropout, MutualInformation):
        with pytest.raises(ValueError, match=r"must be .* at the share 0\.\d+ of the fit"):
            make(dips)


def test_a_weight_that_is_negative_for_a_moment_is_refused_then() -> None:
    term = MutualInformation(Dip(0.0001))
    assert term.signed_weight(0.5) == 1.0
    with pytest.raises(ValueError, match=r"MutualInformation: weight .* got -1.0 at the share 0.501"):
        term.signed_weight(0.501)
