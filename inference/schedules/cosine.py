"""From one weight to another along half a cosine."""

from __future__ import annotations

import math

from .linear import Linear


class Cosine(Linear):
    """``start`` until the share ``begin`` of the fit, ``end`` from the share ``until`` on, half a cosine between.

    Level at both ends and steepest midway [as of learning rates: Loshchilov & Hutter 2017].

    Raises:
        ValueError: shares out of order or outside [0, 1].
    """

    def at(self, share: float) -> float:
        return self.start + 0.5 * (1 - math.cos(math.pi * self.along(share))) * (self.end - self.start)
