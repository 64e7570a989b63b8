"""The worker's side of alternating measurements: some steps whenever a line comes in."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

WARM_UP = 5
"""Steps before the first that is timed: more than the batches of an epoch, so that what is kept has been kept."""


def mebibytes_now() -> float:
    """Resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Rounds:
    """Told when a step begins and ends; between rounds it waits for the number of steps of the next one.

    After the warm-up, and after each round, a line of JSON on standard output: the CPU seconds of its steps, the peak
    of resident memory so far, and what was resident before the first step, in MiB.
    """

    def __init__(self) -> None:
        self.before = mebibytes_now()
        self.left, self.seconds = WARM_UP, list[float]()
        self.begun = 0.0

    def begin(self) -> None:
        self.begun = time.process_time()

    def end(self) -> None:
        """Waits where a round is over.

        Raises:
            SystemExit: no further round is wanted.
        """
        self.seconds.append(time.process_time() - self.begun)
        self.left -= 1
        if not self.left:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            report = {"seconds": self.seconds, "peak": peak, "before": self.before}
            print(json.dumps(report), flush=True)
            line = sys.stdin.readline()
            if not line.strip():
                raise SystemExit(0)
            self.left, self.seconds = int(line), []
        self.begin()
