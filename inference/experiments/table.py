"""Tables as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """What a summary prints and writes.

    Attributes:
        name: of its CSV file.
        head: headings of the columns, with units where there are any.
        rows: the cells as shown.
        records: the rows in full, for the CSV file.
        title: a line above it.
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    records: Sequence[Mapping[str, object]]
    title: str = ""

    def markdown(self) -> str:
        """The table as shown, its columns lined up."""
        lines = [[cell.replace("|", r"\|") for cell in line] for line in (self.head, *self.rows)]
        widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(self.head))]
        lines.insert(1, ["-" * width for width in widths])
        shown = [
            f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
            for line in lines
        ]
        return "\n".join([*([f"{self.title}\n"] if self.title else []), *shown])


def readable(value: float) -> str:
    """Three digits, and no more than four decimals: what a table can say of a figure of one sample."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{round(value, 4) + 0.0:.3g}"  # + 0.0: never -0


def comma_separated(records: Sequence[Mapping[str, object]]) -> str:
    """Records as CSV: a column for each key that any of them has, empty where one lacks it."""
    names = dict.fromkeys(name for record in records for name in record)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
