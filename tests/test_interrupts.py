"""Interrupts as a flag: which signals, how often, and that they are given back."""

from __future__ import annotations

import signal

import pytest
from stratagem.inference.interrupts import interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

pytestmark = pytest.mark.usefixtures("_on_a_terminal")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_a_flag_and_gives_the_signals_back(number: int) -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    with interrupts() as interrupted:
        assert not interrupted()
        assert [signal.getsignal(n) for n in SIGNALS] != before
        signal.raise_signal(number)
        assert interrupted()
        assert [signal.getsignal(n) for n in SIGNALS] == before
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_the_second_acts() -> None:
    with interrupts() as interrupted:
        signal.raise_signal(signal.SIGTERM)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_terminal_that_is_to_be_ignored_is_ignored() -> None:
    """As under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts() as interrupted:
        signal.raise_signal(signal.SIGHUP)
        assert not interrupted()
