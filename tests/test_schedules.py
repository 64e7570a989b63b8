"""Weights over a fit."""

from __future__ import annotations

import pytest
from stratagem.inference.schedules import Constant, Linear
from stratagem.inference.terms import ForwardKL, MutualInformation


def test_a_line_is_flat_before_and_after() -> None:
    schedule = Linear(2.0, 0.5, begin=0.25, until=0.75)
    weights = [schedule.at(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert weights == pytest.approx([2.0, 2.0, 1.25, 0.5, 0.5])


def test_a_constant_is_a_constant() -> None:
    assert {Constant(0.3).at(share) for share in (0.0, 0.4, 1.0)} == {0.3}


@pytest.mark.parametrize(("begin", "until"), [(0.5, 0.5), (0.6, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_shares_out_of_order_are_refused(begin: float, until: float) -> None:
    with pytest.raises(ValueError, match="begin"):
        Linear(1.0, 0.0, begin, until)


def test_a_term_has_its_sign_and_the_weight_of_the_share() -> None:
    assert MutualInformation(Linear(1.0, 0.0)).signed_weight(0.25) == pytest.approx(0.75)
    assert ForwardKL(2.0).signed_weight(0.5) == -2.0


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), Linear(1.0, -0.1)])
def test_a_negative_or_infinite_weight_is_refused(weight: float | Linear) -> None:
    with pytest.raises(ValueError, match="MutualInformation"):
        MutualInformation(weight)
