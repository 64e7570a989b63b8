"""What an experiment shows in the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from ...models.pretrained import write_atomic
from .outcomes import Outcome
from .table import Table, comma_separated


class Summary(ABC):
    """The tables of an experiment."""

    @abstractmethod
    def check(self, axes: Sequence[str]) -> None:
        """Refuse, before the first fit, axes that it cannot sum up.

        Raises:
            ValueError: says which it needs.
        """

    @abstractmethod
    def tables(self, outcomes: Sequence[Outcome]) -> list[Table]:
        """The tables of all cells, some of which may have no figures."""


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
