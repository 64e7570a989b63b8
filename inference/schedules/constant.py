"""The same weight throughout."""

from __future__ import annotations

from .schedule import Schedule


class Constant(Schedule):
    """``value`` at every step."""

    def __init__(self, value: float) -> None:
        self.value = value

    def at(self, share: float) -> float:  # noqa: ARG002
        return self.value


def scheduled(value: float | Schedule) -> Schedule:
    """A number as a schedule, a schedule as it is."""
    return value if isinstance(value, Schedule) else Constant(value)


def finite(value: float) -> bool:
    """At least 0 and below infinity."""
    return 0 <= value < float("inf")
