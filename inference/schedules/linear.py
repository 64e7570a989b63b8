"""From one weight to another along a line."""

from __future__ import annotations

from .schedule import Schedule


class Linear(Schedule):
    """``start`` until the share ``begin`` of the fit, ``end`` from the share ``until`` on, a line between.

    Raises:
        ValueError: shares out of order or outside [0, 1].
    """

    def __init__(self, start: float, end: float, begin: float = 0.0, until: float = 1.0) -> None:
        if not 0 <= begin < until <= 1:
            raise ValueError(
                f"schedule {type(self).__name__.lower()}: expected 0 <= begin < until <= 1, got begin={begin} "
                f"until={until}"
            )
        self.start, self.end, self.begin, self.until = start, end, begin, until

    def at(self, share: float) -> float:
        return self.start + self.along(share) * (self.end - self.start)

    def along(self, share: float) -> float:
        """How much of the way from ``begin`` to ``until`` is done."""
        return min(1.0, max(0.0, (share - self.begin) / (self.until - self.begin)))
