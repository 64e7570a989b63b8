"""One weight, then another."""

from __future__ import annotations

from .schedule import Schedule


class Until(Schedule):
    """``value`` until the share ``share`` of the fit is done, ``after`` from there on.

    Raises:
        ValueError: a share that is not between 0 and 1.
    """

    def __init__(self, value: float, after: float, share: float) -> None:
        if not 0 < share < 1:
            raise ValueError(f"schedule until: expected 0 < share < 1, got share={share}")
        self.value, self.after, self.share = value, after, share

    def at(self, share: float) -> float:
        return self.value if share < self.share else self.after
