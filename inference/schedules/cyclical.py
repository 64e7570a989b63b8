"""From one weight to another, again and again."""

from __future__ import annotations

from .schedule import Schedule


class Cyclical(Schedule):
    """In each of ``cycles`` equal parts of the fit a line from ``start`` to ``end``, then ``end`` [Fu et al. 2019].

    Each part but the first begins with a jump back to ``start``; the fit ends at ``end``.

    Args:
        start: the weight at the beginning of each cycle.
        end: the weight at its end.
        cycles: how many, at least 1.
        rise: share of each cycle that the line takes, above 0 and at most 1.

    Raises:
        ValueError: less than one cycle, or a share outside (0, 1].
    """

    def __init__(self, start: float, end: float, cycles: int = 4, rise: float = 0.5) -> None:
        if cycles < 1 or cycles != int(cycles) or not 0 < rise <= 1:
            raise ValueError(
                f"schedule cyclical: expected a whole number of cycles from 1 on and 0 < rise <= 1, got "
                f"cycles={cycles} rise={rise}"
            )
        self.start, self.end, self.cycles, self.rise = start, end, cycles, rise

    def at(self, share: float) -> float:
        done = min(1.0, max(0.0, share)) * self.cycles
        within = done - min(int(done), self.cycles - 1)
        return self.start + min(1.0, within / self.rise) * (self.end - self.start)
