"""The most memory that a fit has held."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

from .heap import release_heap


class PeakMemory:
    """Counts from where it is made.

    On a GPU what PyTorch has allocated there; else what the process had resident, libraries included. A process
    that has fitted before (``--multirun``) starts afresh where the system lets it, which Linux does.

    Args:
        device: where the fit runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            release_heap()
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def figures(self) -> dict[str, float]:
        """``peak_memory`` in MiB; nothing where the system does not tell."""
        if self.device.type == "cuda":
            return {"peak_memory": torch.cuda.max_memory_allocated(self.device) / 2**20}
        if sys.platform == "win32":
            return {}
        import resource

        unit = 1 if sys.platform == "darwin" else 2**10
        return {"peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
