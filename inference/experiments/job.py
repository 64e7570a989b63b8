"""A cell at work."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..locking import lock
from ..run_folder import CONFIG_FILE
from .cells import Cell
from .record import read_record, write_record

PROGRAM = (sys.executable, "-P", "-c", "from stratagem.inference.commands import main; main()")
"""The command line of this installation in a process of its own."""

OUTPUT = "output.txt"

BEAT = 10.0
"""Seconds between two notes of the time that a command has taken."""


@dataclass(frozen=True)
class Launch:
    """How a command is started.

    Attributes:
        environment: variables.
        options: words put after each command (``--config-dir=conf``).
        program: what the words are given to.
    """

    environment: Mapping[str, str]
    options: Sequence[str] = ()
    program: Sequence[str] = PROGRAM


class Job:
    """The commands of a cell, one after the other, each in a process of its own.

    What they print is added to ``output.txt`` in the cell's folder. That file is locked for as long as one of them
    runs, so that no other experiment touches the cell, not even where this one was killed and left them behind.

    Attributes:
        failure: why the cell failed, in a line.

    Args:
        cell: which.
        folder: its own.
        launch: how its commands are started.
    """

    def __init__(self, cell: Cell, folder: Path, launch: Launch) -> None:
        self.cell, self.folder, self.launch = cell, folder, launch
        self.failure = ""
        self.stopped = False
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.output = (folder / OUTPUT).open("ab")
        self.began = self.noted = time.monotonic()
        self.printed = 0
        if not lock(self.output):
            self.failure = "another process is at work on it; wait for it, or stop it"
            self.record = read_record(folder, cell)
            return
        self.record = read_record(folder, cell)
        self._start()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the cell so far, earlier pieces included."""
        running = time.monotonic() - self.began if self.process else 0.0
        return round(self.record.seconds + running, 3)

    def over(self) -> bool:
        """Whether nothing runs any more; starts the next command where one has ended."""
        if self.process is None:
            return True
        status = self.process.poll()
        if status is None:
            if time.monotonic() - self.noted > BEAT:
                self._note()
            return False
        done = self.record.done + (status == 0)
        self.record = replace(self.record, seconds=self.seconds, done=done)
        self.process = None
        write_record(self.folder, self.record)
        if status:
            self.failure = _reason(status, self.folder / OUTPUT, self.printed)
        else:
            self._start()
        return self.process is None

    def stop(self, at_once: bool = False) -> None:
        """Ask the process to save its state and end, or end it; nothing follows it."""
        self.stopped = True
        if self.process is not None:
            (self.process.kill if at_once else self.process.terminate)()

    def close(self) -> None:
        """Let go of the folder."""
        self.output.close()

    def _start(self) -> None:
        if self.record.ended or self.stopped:
            return
        words = list(self.cell.commands[self.record.done])
        if self.record.done == 0:
            words += [f"seed={self.cell.seed}", "fit.progress=false"]
            if (self.folder / CONFIG_FILE).is_file():
                words.append("resume=true")
        words[1:1] = self.launch.options
        words.append(f"run={self.folder}")
        self._note()
        self.output.write(f"$ stratagem {shlex.join(words)}\n".encode())
        self.output.flush()
        self.printed = self.output.tell()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [*self.launch.program, *words],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env=self.launch.environment,
            start_new_session=True,  # Ctrl-C on the terminal reaches the experiment, which passes it on once
        )

    def _note(self) -> None:
        self.noted = time.monotonic()
        write_record(self.folder, replace(self.record, seconds=self.seconds))


def _reason(status: int, output: Path, start: int) -> str:
    """The last line of what a command printed from a place on, or what Hydra said was wrong."""
    with output.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    hydra = [line for line in lines if "HYDRA_FULL_ERROR" in line]
    last = lines[0 if hydra else -1] if lines else "it printed nothing"
    return f"{last} ({_ended(status)})"


def _ended(status: int) -> str:
    return (
        f"exit status {status}" if status > 0 else f"ended by signal {-status}, {signal.strsignal(-status)}"
    )


def threads(jobs: int) -> dict[str, str]:
    """The environment of a job among several at a time: the cores shared, unless the user has said otherwise."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = {"OMP_NUM_THREADS": str(max(1, cores // jobs))} if jobs > 1 else {}
    return own | dict(os.environ)
