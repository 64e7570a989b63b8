"""The figures of a fit, a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..models.pretrained import write_atomic


class MetricsLog:
    """Appends to ``metrics.jsonl``; what lies beyond the step from which a fit goes on is dropped first.

    Args:
        path: the file.
        after: the last step that is done.
    """

    def __init__(self, path: Path, after: int) -> None:
        self.path = path
        lines = read_metrics(path)
        kept = [line for line in lines if line["step"] <= after]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, split: str, step: int, figures: Mapping[str, float]) -> None:
        """One line."""
        with self.path.open("a") as file:
            file.write(json.dumps({"split": split, "step": step, **figures}) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a ``metrics.jsonl``; a last line that a killed process left half is not one of them."""
    out = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return out
