"""What an experiment shows in the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...models.pretrained import write_atomic
from .outcomes import Outcome
from .table import Table, comma_separated


class Summary(ABC):
    """The tables of an experiment."""

    @abstractmethod
    def check(self, axes: Sequence[str]) -> None:
        """Refuse, before the first fit, axes and settings that it cannot sum up by.

        Raises:
            ValueError: says which it needs.
        """

    @abstractmethod
    def tables(self, outcomes: Sequence[Outcome]) -> list[Table]:
        """The tables of all cells, some of which may have no figures."""


def check_axis(axis: str, axes: Sequence[str], where: str) -> None:
    """Refuse an axis that is none."""
    if axis not in axes:
        raise ValueError(f"{where}: no axis {axis}; there are {', '.join(axes) or 'none'}")


def check_figures(figures: object) -> None:
    """Refuse what is no mapping of figures to their headings."""
    if not isinstance(figures, Mapping):
        raise ValueError(
            f"summary.figures={figures}: expected names of docs/evaluation.md, each with its heading or null"
        )


def groups(
    outcomes: Sequence[Outcome], axes: Sequence[str], by_seed: bool
) -> dict[tuple[str, ...], list[Outcome]]:
    """The outcomes by their labels of some axes, and by their seed where asked."""
    found: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        labels = [outcome.cell.labels[axis] for axis in axes]
        place = (*labels, f"seed{outcome.cell.seed}") if by_seed else tuple(labels)
        found.setdefault(place, []).append(outcome)
    return found


def write_tables(folder: Path, tables: Sequence[Table], outcomes: Sequence[Outcome]) -> str:
    """``table.md``, a CSV file for each table, and ``cells.csv`` with every figure of every cell that has ended.

    Returns:
        The tables as Markdown.
    """
    shown = "\n\n".join(table.markdown() for table in tables)
    write_atomic(folder / "table.md", f"{shown}\n".encode())
    for table in tables:
        write_atomic(folder / f"{table.name}.csv", comma_separated(table.records).encode())
    cells = [o.cell.labels | {"seed": o.cell.seed} | o.figures for o in outcomes if o.figures]
    write_atomic(folder / "cells.csv", comma_separated(cells).encode())
    return shown
