"""Ctrl-C and its like at a moment of one's own choice."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C, SIGTERM or closing of the terminal into a flag; the second acts at once.

    Yields:
        Whether there was one. Outside the main thread there are none.
    """
    seen: list[int] = []
    before: Mapping[int, Any] = {}

    def remember(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        for n, handler in before.items():
            signal.signal(n, handler)

    try:
        before = {n: signal.signal(n, remember) for n in _signals()}
    except ValueError:
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


def _signals() -> list[int]:
    hang_up = getattr(signal, "SIGHUP", None)  # nohup has it ignored, Windows has none
    closing = [hang_up] if hang_up and signal.getsignal(hang_up) is signal.SIG_DFL else []
    return [signal.SIGINT, signal.SIGTERM, *closing]
