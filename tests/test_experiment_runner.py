"""Running cells: how each is called, and what becomes of those that fail, are stopped, or are there already."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from stratagem.inference.experiments import check_folder, run_cells
from stratagem.inference.experiments import job as job_module
from stratagem.inference.experiments import runner as runner_module
from stratagem.inference.experiments.job import OUTPUT, Job, Launch
from stratagem.inference.experiments.record import RECORD
from stratagem.inference.experiments.runner import duration

from .experiment_fixtures import Axes, calls, cells_of, record, write_program

Run = Callable[..., dict[str, str]]


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    return write_program(tmp_path)


@pytest.fixture
def run(program: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """:func:`run_cells` with the made-up fit, in the folder ``run``."""
    monkeypatch.setattr(runner_module, "POLL", 0.01)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return partial(run_cells, folder=tmp_path / "run", program=program)


def test_each_cell_is_a_run_of_its_own_and_made_once(run: Run, tmp_path: Path) -> None:
    cells = cells_of(common=["lm=x"])
    assert run(cells) == {}
    folders = [tmp_path / "run" / cell.name for cell in cells]
    for folder, cell in zip(folders, cells, strict=True):
        (call,) = calls(folder)
        assert call["command"] == "fit"
        own = {"seed": str(cell.seed), "run": str(folder), "fit.progress": "false"}
        assert call["given"] == {"lm": "x", "level": {"s": "0.5", "l": "0.9"}[cell.labels["size"]]} | own
        assert call["threads"] is None
        kept = record(folder)
        assert (kept["commands"], kept["done"]) == (cell.commands, 1)
        assert kept["seconds"] > 0
        assert (folder / OUTPUT).read_text().endswith("a last line\n")
    before = [(folder / RECORD).read_bytes() for folder in folders]
    more = cells_of(seeds=(0, 1, 2), common=["lm=x"])
    assert run(more) == {}
    assert [len(calls(folder)) for folder in folders] == [1, 1, 1, 1]
    assert [(folder / RECORD).read_bytes() for folder in folders] == before
    assert len(calls(tmp_path / "run" / "l" / "seed2")) == 1


def test_a_cell_that_fails_leaves_the_others_alone(run: Run, tmp_path: Path) -> None:
    failures = run(cells_of(common=["refused=0"]))
    assert set(failures) == {"s/seed0", "l/seed0"}
    assert failures["s/seed0"] == (
        f"no such thing here (exit status 1); see {tmp_path / 'run' / 's' / 'seed0' / OUTPUT}"
    )
    assert record(tmp_path / "run" / "s" / "seed0")["done"] == 0
    assert record(tmp_path / "run" / "s" / "seed1")["done"] == 1
    assert set(run(cells_of(common=["refused=0"]))) == {"s/seed0", "l/seed0"}
    assert len(calls(tmp_path / "run" / "s" / "seed0")) == 2
    assert len(calls(tmp_path / "run" / "s" / "seed1")) == 1
    (tmp_path / "run" / "s" / "seed1" / "config.yaml").unlink()
    assert run(cells_of()[:1]) == {}, "refused before it began, it may be made with other settings"


@contextmanager
def when(monkeypatch: pytest.MonkeyPatch, *moments: tuple[Callable[[], object], int]) -> Iterator[None]:
    """Signals this process, each time that the runner sleeps and the next moment has come."""
    left, sleep = list(moments), time.sleep

    def look(seconds: float) -> None:
        if left and left[0][0]():
            signal.raise_signal(left.pop(0)[1])
        sleep(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(runner_module.time, "sleep", look)
        yield


@pytest.mark.usefixtures("_on_a_terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_the_fits_which_then_go_on(
    number: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    axes: Axes = {"size": {"s": ["level=0.5"], "l": ["level=0.9", "wait=yes"]}}
    cells = cells_of(axes)
    folders = [tmp_path / "run" / cell.name for cell in cells]
    waiting = [folder / "waiting" for folder in folders[2:]]
    with (
        when(monkeypatch, (lambda: all(path.exists() for path in waiting), number)),
        pytest.raises(
            KeyboardInterrupt, match="interrupted with 2 of 4 cells done; the same command goes on"
        ),
    ):
        run(cells, jobs=2)
    assert signal.getsignal(number) == before
    assert [record(folder)["done"] for folder in folders] == [1, 1, 0, 0]
    for folder in folders:
        with (folder / OUTPUT).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else a process is left behind
    first = [record(folder)["seconds"] for folder in folders]
    assert min(first) > 0
    assert run(cells, jobs=2) == {}
    assert [len(calls(folder)) for folder in folders] == [1, 1, 2, 2]
    assert calls(folders[2])[1]["given"]["resume"] == "true"
    assert "resume" not in calls(folders[2])[0]["given"]
    seconds = [record(folder)["seconds"] for folder in folders]
    assert seconds[:2] == first[:2]
    assert seconds[2] > first[2]


def test_nothing_is_started_after_an_interrupt(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what comes after a fit that was at its end."""
    cells = cells_of({"size": {"s": ["level=0", "wait=to the end"]}}, then=[["prune"]])
    folder = tmp_path / "run" / cells[0].name
    moment = (lambda: (folder / "waiting").exists(), signal.SIGTERM)
    with when(monkeypatch, moment), pytest.raises(KeyboardInterrupt):
        run(cells)
    assert [call["command"] for call in calls(folder)] == ["fit"]
    assert record(folder)["done"] == 1
    assert not (tmp_path / "run" / cells[1].name).exists()
    assert run(cells[:1]) == {}
    assert [call["command"] for call in calls(folder)] == ["fit", "prune"]


@pytest.mark.usefixtures("_on_a_terminal")
def test_a_second_interrupt_ends_a_fit_that_does_not_listen(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_of({"size": {"s": ["level=0", "wait=deaf"]}}, seeds=[0])
    folder = tmp_path / "run" / cells[0].name
    began = time.monotonic()
    moments = [(lambda: (folder / "waiting").exists(), signal.SIGINT), (lambda: True, signal.SIGINT)]
    with when(monkeypatch, *moments), pytest.raises(KeyboardInterrupt):
        run(cells)
    assert time.monotonic() - began < runner_module.GRACE / 2
    with (folder / OUTPUT).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert 0 < record(folder)["seconds"] < 30


def test_the_time_is_written_down_while_a_fit_runs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that little of it is lost where all is killed."""
    monkeypatch.setattr(job_module, "BEAT", 0.0)
    cells = cells_of({"size": {"s": ["level=0", "wait=yes"]}}, seeds=[0])
    folder = tmp_path / "run" / cells[0].name
    seen: list[float] = []

    def noted() -> bool:
        if (folder / "waiting").exists():
            seen.append(record(folder)["seconds"])
        return len(seen) > 3

    with when(monkeypatch, (noted, signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        run(cells)
    assert seen[-1] > seen[0]


def test_a_command_after_the_fit_is_tried_again_without_the_fit(run: Run, tmp_path: Path) -> None:
    cells = cells_of({"size": {"s": ["level=0.5"]}}, [0], then=[["prune", "least=0.1"], ["evaluate"]])
    folder = tmp_path / "run" / "s" / "seed0"
    folder.mkdir(parents=True)
    (folder / "break").touch()
    assert run(cells)["s/seed0"].startswith("prune has broken (exit status 1)")
    assert [call["command"] for call in calls(folder)] == ["fit", "prune"]
    assert calls(folder)[1]["given"] == {"least": "0.1", "run": str(folder)}
    (folder / "break").unlink()
    assert run(cells) == {}
    assert run(cells) == {}
    assert [call["command"] for call in calls(folder)] == ["fit", "prune", "prune", "evaluate"]


def test_a_cell_that_another_process_is_at_work_on_is_left_alone(
    run: Run, program: list[str], tmp_path: Path
) -> None:
    """Even where the experiment that had started it is gone, and only its fit is left."""
    cells = cells_of({"size": {"s": ["level=0", "wait=yes"]}}, seeds=[0])
    folder = tmp_path / "run" / cells[0].name
    orphan = Job(cells[0], folder, Launch(os.environ, program=program))
    orphan.close()
    try:
        while not (folder / "waiting").exists():
            assert not orphan.over()
        assert "another process is at work on it" in run(cells)["s/seed0"]
        assert len(calls(folder)) == 1
    finally:
        orphan.stop()
        while not orphan.over():
            time.sleep(0.01)
    assert run(cells) == {}


@pytest.mark.parametrize(
    ("jobs", "own", "wanted"),
    [(1, None, None), (2, None, "3"), (7, None, "1"), (2, "5", "5"), (99, None, "1")],
)
def test_jobs_share_the_cores_unless_the_user_says_how(
    jobs: int, own: str | None, wanted: str | None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    if own:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    cells = cells_of(seeds=(0, 1, 2) if jobs > 1 else (0,))
    run(cells, jobs=jobs)
    assert {call["threads"] for cell in cells for call in calls(tmp_path / "run" / cell.name)} == {wanted}


def test_one_cell_left_has_all_cores(run: Run, tmp_path: Path) -> None:
    cells = cells_of(seeds=[0])
    run(cells[:1], jobs=2)
    assert calls(tmp_path / "run" / cells[0].name)[0]["threads"] is None


def test_the_log_tells_the_time_left(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = cells_of(seeds=(0, 1, 2))
    run(cells[:2])
    for cell, seconds in zip(cells, (600, 1200), strict=False):
        path = tmp_path / "run" / cell.name / RECORD
        path.write_text(json.dumps({"commands": cell.commands, "done": 1, "seconds": seconds}))
    caplog.clear()
    with caplog.at_level("INFO"):
        run(cells, jobs=2)
    first, *lines = caplog.messages
    assert first == "6 cells, 4 of them to run, about 30 min left"  # 4 cells of 15 minutes, two at a time
    assert len(lines) == 4
    assert all(re.match(r"[sl]/seed\d done after \d s; \d of 6 cells", line) for line in lines)
    assert "left" not in lines[-1]


def test_durations_in_words() -> None:
    said = [duration(seconds) for seconds in (0.4, 99, 100, 3540, 3599, 7260)]
    assert said == ["0 s", "99 s", "2 min", "59 min", "1 h 0 min", "2 h 1 min"]


HYDRA = "Could not override 'fit.stepz'.\nKey 'stepz' is not in struct\n\nSet HYDRA_FULL_ERROR=1 for a trace."


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"print({HYDRA!r}); raise SystemExit(1)", "Could not override 'fit.stepz'. (exit status 1)"),
        ("print('a'); 1 / 0", "ZeroDivisionError: division by zero (exit status 1)"),
        ("import os; os.kill(os.getpid(), 9)", "it printed nothing (ended by signal 9, Killed)"),
    ],
)
def test_the_reason_of_a_failure_is_one_line(code: str, said: str, run: Run) -> None:
    """That of the last attempt."""
    cells = cells_of(seeds=[0])[:1]
    run(cells, program=[sys.executable, "-c", "print('before'); raise SystemExit(3)"])
    failures = run(cells, program=[sys.executable, "-c", code])
    assert failures["s/seed0"].startswith(f"{said}; see ")


def test_a_folder_of_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    folder, cells = tmp_path / "run", cells_of()
    check_folder(folder, "one", cells)
    run(cells)
    check_folder(folder, "one", cells_of(seeds=(0, 1, 2)))
    with pytest.raises(ValueError, match=r"is that of the experiment one with the axes size, not of .* two "):
        check_folder(folder, "two", cells)
    with pytest.raises(
        ValueError, match=r"axes size, not of the experiment one with the axes none; pass another run="
    ):
        check_folder(folder, "one", cells_of({}))
    other: Axes = {"size": {"s": ["level=0.5"], "l": ["level=0.8"]}}
    named = r"l/seed0: this cell was made with level=0\.9, and now it is level=0\.8; pass another run="
    with pytest.raises(ValueError, match=named):
        check_folder(folder, "one", cells_of(other))
    with pytest.raises(ValueError, match=r"was made with nothing of it, and now it is prune; pass another"):
        check_folder(folder, "one", cells_of(then=[["prune"]]))
    (folder / "s" / "seed0" / RECORD).write_text("{")
    with pytest.raises(ValueError, match=r"cell\.json cannot be read"):
        check_folder(folder, "one", cells)
    with pytest.raises(ValueError, match="there is a run of stratagem fit in this folder"):
        check_folder(folder / "l" / "seed0", "one", cells)
