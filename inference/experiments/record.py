"""What an experiment keeps about itself and about its cells, so that it can go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...models.pretrained import write_atomic
from ..run_folder import CONFIG_FILE
from .cells import Cell

RECORD, EXPERIMENT = "cell.json", "experiment.json"


@dataclass(frozen=True)
class Record:
    """How far a cell has come.

    Attributes:
        commands: what it is made with.
        done: how many of them have ended well.
        seconds: of wall-clock time, all pieces of an interrupted cell together.
    """

    commands: list[list[str]]
    done: int = 0
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Nothing is left to do."""
        return self.done >= len(self.commands)


def write_record(folder: Path, record: Record) -> None:
    """``cell.json``, atomically."""
    write_atomic(folder / RECORD, json.dumps(asdict(record), indent=2).encode())


def read_record(folder: Path, cell: Cell) -> Record:
    """How far the cell in a folder has come, nothing done where there is none.

    Raises:
        ValueError: a run made with other commands, or a file that cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        return Record(cell.commands)
    try:
        record = Record(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read: {error}; remove the folder to make the cell again"
        ) from None
    if record.commands == cell.commands:
        return record
    if not (folder / CONFIG_FILE).is_file():  # refused before it began
        return Record(cell.commands)
    before, now = _words(record.commands), _words(cell.commands)
    raise ValueError(
        f"{folder}: this cell was made with {_without(before, now)}, and now it is {_without(now, before)}; pass "
        f"another run=, or remove the cell's folder to make it again"
    )


def _words(commands: Sequence[Sequence[str]]) -> list[str]:
    return [word for command in commands for word in command]


def _without(words: Sequence[str], others: Sequence[str]) -> str:
    return " ".join(word for word in words if word not in others) or "nothing of it"


def check_folder(folder: Path, name: str, cells: Sequence[Cell]) -> None:
    """Refuse a folder with something else in it, and mark it as the experiment's.

    Raises:
        ValueError: a run, another experiment, or cells made with other commands.
    """
    if (folder / CONFIG_FILE).is_file():
        raise ValueError(f"run={folder}: there is a run of stratagem fit in this folder; pass another run=")
    own = {"experiment": name, "axes": list(cells[0].labels)}
    path = folder / EXPERIMENT
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}; pass another run=") from None
        if found != own:
            raise ValueError(
                f"run={folder}: this folder is that of {_said(found)}, not of {_said(own)}; pass another run="
            )
    for cell in cells:
        read_record(folder / cell.name, cell)
    write_atomic(path, json.dumps(own).encode())


def _said(experiment: dict[str, Any]) -> str:
    return (
        f"the experiment {experiment['experiment']} with the axes {', '.join(experiment['axes']) or 'none'}"
    )
