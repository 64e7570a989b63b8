"""``stratagem position``: how early in the response the latent of a run can be read, and what it carries."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from omegaconf import DictConfig

from ...models.pretrained import write_atomic
from ..evaluation import Positions, position
from ..figures import write_figure
from ..position_figure import position_picture
from .load import load_for_figures

HEADINGS = {
    "tokens": ("tokens", "read"),
    "data": ("data", "so long"),
    "information": ("I(z; y)", "nats"),
    "strategy_ami": ("AMI of z", "strategy"),
    "nuisance_ami": ("AMI of z", "nuisance"),
    "strategy_information": ("strategy", "nats"),
    "nuisance_information": ("nuisance", "nats"),
    "strategy_certainty": ("strategy", "p"),
    "nuisance_certainty": ("nuisance", "p"),
}
"""Two lines above each column of the table."""


def run(config: DictConfig) -> None:
    """Print the table, and write ``position.csv``, ``.json``, ``.png`` and ``.svg`` into the run's folder."""
    model, guide, data, seed = load_for_figures(config)
    folder = Path(config.run)
    found = position(model, guide, data, seed, folder / "data", config.batch_size, config.limit)
    write_atomic(folder / "position.csv", comma_separated(found).encode())
    write_atomic(folder / "position.json", json.dumps(found.figures, indent=2).encode())
    write_figure(folder / "position", position_picture(found.columns))
    print(table(found))


def table(found: Positions) -> str:
    """A line for each number of tokens; below them what z carries, where it is known."""
    names = [name for name in HEADINGS if name in found.columns]
    lines = [list(line) for line in zip(*(HEADINGS[name] for name in names), strict=True)]
    for row in zip(*(found.columns[name].tolist() for name in names), strict=True):
        lines.append(
            [f"{round(value, 3) + 0.0:.3f}" if isinstance(value, float) else str(value) for value in row]
        )
    text = "\n".join("  ".join(cell.rjust(8) for cell in line) for line in lines)
    return text if found.reading is None else f"{text}\nthe latent carries: {found.reading}"


def comma_separated(found: Positions) -> str:
    """The columns as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(found.columns)
    writer.writerows(zip(*(column.tolist() for column in found.columns.values()), strict=True))
    return out.getvalue()
