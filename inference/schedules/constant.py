"""The same weight throughout."""

from __future__ import annotations

from .schedule import Schedule


class Constant(Schedule):
    """``value`` at every step."""

    def __init__(self, value: float) -> None:
        self.value = value

    def at(self, share: float) -> float:  # noqa: ARG002
        return self.value
