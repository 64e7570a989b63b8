"""``stratagem compare``: runs side by side."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from omegaconf import DictConfig

from ...models.pretrained import write_atomic
from ..comparison import Row, find_runs, ranked, rows_of
from ..comparison_figure import Axis, write_picture
from ..evaluation.use import VERDICTS

log = logging.getLogger(__name__)

VERDICT = "use/verdict"

AXES = (
    Axis("bound", "held-out bound", "nats/sequence"),
    Axis("fidelity/log_marginal", "log p(y|x)", "nats/sequence"),
    Axis("fidelity/kl_per_token", "KL(p0 ‖ p)", "nats/token"),
    Axis("use/mutual_information", "I(z; y|x)", "nats/sequence"),
    Axis(VERDICT, "z is"),
    Axis("meaning/alignment", "alignment"),
    Axis("seconds", "time", "s/step"),
    Axis("peak_memory", "memory", "MiB"),
)


def run(config: DictConfig) -> None:
    """Print the table of the runs in a folder, and write ``compare.csv``, ``compare.png`` and ``compare.svg`` there."""
    if config.run is None:
        raise ValueError("no folder given; stratagem compare DIR, the folder of stratagem fit --multirun")
    folder = Path(config.run)
    if not folder.is_dir():
        raise ValueError(f"run={folder}: no folder there")
    found = find_runs(folder)
    for path, note in found.notes.items():
        log.warning("%s: %s", path, note)
    if not found.runs:
        raise ValueError(
            f"run={folder}: no run that has ended in this folder; runs are made by stratagem fit"
        )
    axes = list(AXES)
    if config.sort not in [axis.figure for axis in axes]:
        axes.insert(0, Axis(config.sort, config.sort))
    rows = ranked(rows_of(found.runs), config.sort)
    print(table(rows, axes))
    write_atomic(folder / "compare.csv", comma_separated(rows, axes).encode())
    write_picture(folder / "compare", rows, [axis for axis in axes if axis.figure != VERDICT])


def table(rows: Sequence[Row], axes: Sequence[Axis]) -> str:
    """A row for each choice of settings: the median over its runs, and below it the least and the largest."""
    known = [axis for axis in axes if any(row.values(axis.figure) for row in rows)]
    names = list(rows[0].settings)
    lines = [[*names, "runs", *(axis.heading for axis in known)]]
    lines += [["" for _ in names] + ["", *(axis.unit for axis in known)]]
    for row in rows:
        values = [row.values(axis.figure) for axis in known]
        lines += [
            [
                *row.settings.values(),
                str(len(row.runs)),
                *(_middle(axis, v) for axis, v in zip(known, values, strict=True)),
            ]
        ]
        if len(row.runs) > 1:
            lines += [["" for _ in names] + ["", *(_range(a, v) for a, v in zip(known, values, strict=True))]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < len(names) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _middle(axis: Axis, values: Sequence[float]) -> str:
    if not values:
        return "-"
    if axis.figure == VERDICT:
        counts = Counter(VERDICTS[int(value)] for value in values)
        return " ".join(word if len(counts) == 1 else f"{n} {word}" for word, n in counts.most_common())
    return f"{median(values):.4g}"


def _range(axis: Axis, values: Sequence[float]) -> str:
    if axis.figure == VERDICT or len(values) < 2:
        return ""
    return f"{min(values):.4g}..{max(values):.4g}"


def comma_separated(rows: Sequence[Row], axes: Sequence[Axis]) -> str:
    """The table as CSV: of each figure the median, the least and the largest."""
    figures = [axis.figure for axis in axes]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    endings = ("", "_min", "_max")
    writer.writerow(
        [*rows[0].settings, "runs", *(f"{name}{ending}" for name in figures for ending in endings)]
    )
    for row in rows:
        values = [row.values(name) for name in figures]
        cells = [f(v) if v else "" for v in values for f in (median, min, max)]
        writer.writerow([*row.settings.values(), len(row.runs), *cells])
    return out.getvalue()
