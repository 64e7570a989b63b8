"""What the cells of an experiment came to."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..comparison import EVALUATION
from .cells import Cell
from .record import read_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A cell with its figures.

    Attributes:
        cell: which.
        folder: of its run.
        figures: those of ``evaluation.json`` that are numbers, and ``seconds``, the wall-clock time of all that
            made it; nothing where it has not ended.
    """

    cell: Cell
    folder: Path
    figures: dict[str, float]


def read_outcomes(cells: Sequence[Cell], folder: Path) -> list[Outcome]:
    """An outcome for each cell, those that have not ended included."""
    return [Outcome(cell, folder / cell.name, _figures(cell, folder / cell.name)) for cell in cells]


def _figures(cell: Cell, folder: Path) -> dict[str, float]:
    record = read_record(folder, cell)
    if not record.ended:
        return {}
    path = folder / EVALUATION
    try:
        figures = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        log.warning("%s cannot be read: %s; run stratagem evaluate run=%s", path, error, folder)
        figures = {}
    known = {n: v for n, v in figures.items() if isinstance(v, int | float) and not math.isnan(v)}
    return known | {"seconds": record.seconds}
