"""Running the cells of an experiment."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..interrupts import interrupts
from .cells import Cell
from .job import OUTPUT, PROGRAM, Job, Launch, threads
from .record import read_record

log = logging.getLogger(__name__)

POLL, GRACE = 0.1, 60.0
"""Seconds between two looks at the processes, and those that they have to end in."""


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    jobs: int = 1,
    options: Sequence[str] = (),
    progress: bool = True,
    program: Sequence[str] = PROGRAM,
) -> dict[str, str]:
    """Run what has not ended, each cell in a folder of its own, whatever becomes of the others.

    A cell that was interrupted goes on where it was.

    Args:
        cells: which.
        folder: the experiment's.
        jobs: cells at a time, at least 1.
        options: words put after each command.
        progress: show a bar where the output is a terminal.
        program: what the words of the commands are given to.

    Returns:
        Of each cell that failed, by name, why.

    Raises:
        KeyboardInterrupt: interrupted; the processes have been stopped, the same call goes on.
    """
    records = {cell.name: read_record(folder / cell.name, cell) for cell in cells}
    times = [record.seconds for record in records.values() if record.ended]
    todo = deque(cell for cell in cells if not records[cell.name].ended)
    jobs = min(jobs, max(1, len(todo)))
    launch = Launch(threads(jobs), options, program)
    failures: dict[str, str] = {}
    running: list[Job] = []
    log.info("%s cells, %s of them to run%s", len(cells), len(todo), _left(times, len(todo), jobs))
    with (
        interrupts() as interrupted,
        logging_redirect_tqdm(),
        tqdm(
            total=len(cells),
            initial=len(times),
            disable=None if progress else True,
            bar_format="{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}",
            desc="cells",
        ) as bar,
    ):
        try:
            while todo or running:
                while todo and len(running) < jobs:
                    cell = todo.popleft()
                    running.append(Job(cell, folder / cell.name, launch))
                time.sleep(POLL)
                if interrupted():
                    raise KeyboardInterrupt(
                        f"interrupted with {len(times)} of {len(cells)} cells done; the same command goes on"
                    )
                for job in [job for job in running if job.over()]:
                    running.remove(job)
                    job.close()
                    if job.failure:
                        failures[job.cell.name] = f"{job.failure}; see {job.folder / OUTPUT}"
                    else:
                        times.append(job.seconds)
                        bar.update()
                    left = _left(times, len(todo) + len(running), jobs)
                    bar.set_postfix_str(left.removeprefix(", "))
                    log.info(
                        "%s %s after %s; %s of %s cells%s",
                        job.cell.name,
                        "failed" if job.failure else "done",
                        duration(job.seconds),
                        len(times),
                        len(cells),
                        left,
                    )
        finally:
            _stop(running)
    return failures


def _stop(running: Sequence[Job]) -> None:
    """End what runs, with time to save its state, or at once where there is another interrupt."""
    if not running:
        return
    log.info("stopping %s; again to stop at once", ", ".join(job.cell.name for job in running))
    try:
        for job in running:
            job.stop()
        _wait(running)
    finally:
        for job in running:
            job.stop(at_once=True)
        _wait(running)
        for job in running:
            job.close()


def _wait(running: Sequence[Job]) -> None:
    end = time.monotonic() + GRACE
    while [job for job in running if not job.over()] and time.monotonic() < end:
        time.sleep(POLL)


def _left(times: Sequence[float], cells: int, jobs: int) -> str:
    """The time left, going by the mean of the cells that have ended."""
    return f", about {duration(mean(times) * cells / jobs)} left" if times and cells else ""


def duration(seconds: float) -> str:
    """In words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
