"""Figures over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ..comparison import SMALLER
from .outcomes import Outcome
from .summary import Summary, check_axis, check_figures, groups
from .table import Table, readable


@dataclass(frozen=True)
class OverSeeds(Summary):
    """The median and the worst of each figure over the seeds, and over the axes that are no rows.

    Args:
        figures: names of figures, each with its heading, null for the name itself.
        rows: axes; a row for each choice of their labels. All where null.
    """

    figures: Mapping[str, str | None]
    rows: Sequence[str] | None = None

    def check(self, axes: Sequence[str]) -> None:
        """Refuse rows that are no axes."""
        for axis in self.rows or ():
            check_axis(axis, axes, "summary.rows")
        check_figures(self.figures)
        if not self.figures:
            raise ValueError("summary.figures: no figures; expected names of docs/evaluation.md")

    def tables(self, outcomes: Sequence[Outcome]) -> list[Table]:
        """One table."""
        axes = list(outcomes[0].cell.labels) if self.rows is None else list(self.rows)
        head = [*axes, "runs", *(heading or name for name, heading in self.figures.items())]
        rows, records = [], []
        for labels, group in groups(outcomes, axes, by_seed=False).items():
            ended = sum(bool(outcome.figures) for outcome in group)
            runs = str(ended) if ended == len(group) else f"{ended} of {len(group)}"
            rows.append([*labels, runs, *(_shown(name, group, ended) for name in self.figures)])
            record: dict[str, object] = dict(zip(axes, labels, strict=True)) | {"runs": ended}
            for name in self.figures:
                record |= _record(name, group, axes)
            records.append(record)
        return [Table("table", head, rows, records)]


def _values(name: str, group: Sequence[Outcome]) -> list[float]:
    return [outcome.figures[name] for outcome in group if name in outcome.figures]


def _worst(name: str, values: Sequence[float]) -> float:
    return max(values) if SMALLER.fullmatch(name) else min(values)


def _shown(name: str, group: Sequence[Outcome], ended: int) -> str:
    """``median (worst)`` or the one value, with the number of values where some of the runs lack the figure."""
    values = _values(name, group)
    if not values:
        return "-"
    beside = [readable(_worst(name, values))] if len(values) > 1 else []
    if len(values) < ended:
        beside.append(f"{len(values)} of {ended}")
    return readable(median(values)) + (f" ({'; '.join(beside)})" if beside else "")


def _record(name: str, group: Sequence[Outcome], axes: Sequence[str]) -> dict[str, object]:
    """Median, worst, least and largest, then the figure of each run by what tells it from the others."""
    values = _values(name, group)
    figures: dict[str, object] = dict.fromkeys(
        f"{name}_{end}" for end in ("median", "worst", "least", "largest")
    )
    if values:
        middle = (median(values), _worst(name, values), min(values), max(values))
        figures = dict(zip(figures, middle, strict=True))
    for outcome in group:
        rest = [label for axis, label in outcome.cell.labels.items() if axis not in axes]
        figures[f"{name}_{'/'.join([*rest, f'seed{outcome.cell.seed}'])}"] = outcome.figures.get(name)
    return figures
