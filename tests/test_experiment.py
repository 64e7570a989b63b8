"""``stratagem experiment``: what it prints and writes, and one plain line for each wrong use of it."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from stratagem.inference import fit as fit_module
from stratagem.inference.commands import experiment as command_module
from stratagem.inference.commands import main
from stratagem.inference.experiments import run_cells
from stratagem.inference.experiments import runner as runner_module
from stratagem.inference.experiments.job import OUTPUT
from stratagem.inference.metrics import read_metrics

from .experiment_fixtures import AXES, calls, write_program
from .fit_fixtures import own_logging, save_tiny_base, tiny_fit

Said = tuple[int, str, str]


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Said]:
    """``stratagem experiment`` in this process: its status, its output and its log."""
    monkeypatch.setattr(sys, "argv", ["stratagem"])
    monkeypatch.setattr(runner_module, "POLL", 0.01)
    monkeypatch.chdir(tmp_path)

    def experiment(*words: str) -> Said:
        capfd.readouterr()
        status = 0
        with own_logging():
            try:
                main(["experiment", *words])
            except SystemExit as stop:
                status = int(stop.code or 0)
        return (status, *capfd.readouterr())

    return experiment


def write_experiment(folder: Path, name: str = "mine", **parts: Any) -> str:
    """The option that finds an experiment of one's own in a folder."""
    whole = {
        "_target_": "stratagem.inference.experiments.Experiment",
        "axes": dict(AXES),
        "seeds": [0, 1],
        "summary": {
            "_target_": "stratagem.inference.experiments.OverSeeds",
            "figures": {"meaning/alignment": "alignment", "fidelity/kl_per_token": None},
        },
    }
    path = folder / "conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(whole | parts, sort_keys=False))
    return f"--config-dir={folder / 'conf'}"


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with the made-up fit, which cannot take options."""
    program = write_program(tmp_path)

    def without_options(*given: Any) -> dict[str, str]:
        assert [Path(option.removeprefix("--config-dir=")).name for option in given[3]] == ["conf"]
        return run_cells(*given[:3], program=program)

    monkeypatch.setattr(command_module, "run_cells", without_options)


@pytest.mark.usefixtures("faked")
def test_the_command_prints_the_table_and_writes_it(shell: Callable[..., Said], tmp_path: Path) -> None:
    conf = write_experiment(tmp_path)
    status, out, log = shell(conf, "mine", "only=[s,0]", "device=cpu")
    assert status == 0, log
    assert log.splitlines()[0] == "1 cells, 1 of them to run"
    assert [row.split() for row in out.splitlines()[2:]] == [
        ["|", "s", "|", "1", "of", "2", "|", "0.5", "|", "0", "|"],
        ["|", "l", "|", "0", "of", "2", "|", "-", "|", "-", "|"],
    ]
    status, out, log = shell(*conf.split("="), "mine", "device=cpu")
    assert status == 0, log
    folder = tmp_path / "runs" / "experiments" / "mine"
    assert "4 cells, 3 of them to run" in log
    assert f"written to {folder.relative_to(tmp_path) / 'table.md'}" in log
    head, _, small, large = out.splitlines()
    assert head.split() == ["|", "size", "|", "runs", "|", "alignment", "|", "fidelity/kl_per_token", "|"]
    assert small.split()[:8] == ["|", "s", "|", "2", "|", "0.45", "(0.4)", "|"]
    assert "0.85 (0.8)" in large
    assert "0.005 (0.01)" in large
    assert (folder / "table.md").read_text() == out
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["meaning/alignment_worst"]) for row in rows] == pytest.approx([0.4, 0.8])
    with (folder / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(cell["size"], cell["seed"]) for cell in cells] == [
        ("s", "0"),
        ("s", "1"),
        ("l", "0"),
        ("l", "1"),
    ]
    assert [float(cell["meaning/alignment"]) for cell in cells] == pytest.approx([0.5, 0.4, 0.9, 0.8])
    assert "meaning/ami" not in cells[0], "not a number, as good as missing"
    assert all(float(cell["seconds"]) > 0 for cell in cells)
    assert calls(folder / "s" / "seed0")[0]["given"]["device"] == "cpu"
    status, out, log = shell(conf, "mine", "device=cpu", "seeds=[1]")
    assert "| s    | 1    | 0.4       |" in out
    status, _, log = shell(conf, "mine")
    assert status == 1
    assert "s/seed0: this cell was made with device=cpu, and now it is nothing of it" in log


@pytest.mark.usefixtures("faked")
def test_cells_that_fail_are_told_at_the_end_beside_the_table_of_the_others(
    shell: Callable[..., Said], tmp_path: Path
) -> None:
    conf = write_experiment(tmp_path, common=["refused=1"])
    status, out, log = shell(conf, "mine", "run=runs/mine")
    assert status == 1
    assert "| l    | 1 of 2 | 0.9       |" in out
    assert log.splitlines()[-4:] == [
        f"{name} failed: no such thing here (exit status 1); see runs/mine/{name}/output.txt"
        for name in ("s/seed1", "l/seed1")
    ] + [
        "written to runs/mine/table.md",
        "2 of 4 cells failed; the same command tries these again, and no others",
    ]
    status, out, _ = shell(conf, "mine", "run=runs/none", "seeds=[1]")
    assert (status, out) == (1, "")
    assert not (tmp_path / "runs" / "none" / "table.md").exists()


BAD: dict[str, tuple[list[str], str]] = {
    "unknown": (["nope"], r"Could not find 'experiment/nope'[\s\S]*strategies"),
    "none": ([], r"no experiment given; stratagem experiment NAME, with one of .*mine.* strategies"),
    "no jobs": (["mine", "jobs=0"], "jobs=0: expected a whole number, at least 1"),
    "words for jobs": (["mine", "jobs=all"], "jobs=all: expected a whole number"),
    "no seeds": (["mine", "seeds=[]"], r"seeds=\[\]: expected a list of one"),
    "nothing to do": (["mine", "only=xl"], "only=xl: no such cell; there are size: s, l; seed: 0, 1"),
    "no folder": (["mine", "run=null"], "run=null: expected a folder"),
    "unknown command": (["mine", "+experiment.then=[[bake]]"], "then: no command bake; there are fit, "),
    "unknown setting": (["mine", "steps=3"], "steps"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_command_gets_a_line_and_leaves_nothing(
    case: str, shell: Callable[..., Said], tmp_path: Path
) -> None:
    words, named = BAD[case]
    conf = write_experiment(tmp_path)
    status, out, log = shell(conf, *words)
    assert (status, out) == (1, "")
    assert re.search(named, log), log
    assert "Traceback" not in log
    assert not (tmp_path / "runs").exists()


def test_a_real_experiment_of_two_cells_goes_on_where_it_was_stopped(
    shell: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first cell in the middle of the fit, which the runner then tells to resume."""
    base = save_tiny_base(tmp_path / "base")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = [word for word in tiny_fit(base, tmp_path)[1:] if not word.startswith("run=")]
    axes = {"K": {"3": ["latents.z.K=3"], "2": ["latents.z.K=2"]}}
    conf = write_experiment(tmp_path, axes=axes, seeds=[4], common=settings)
    first = tmp_path / "run" / "3" / "seed4"
    looked: list[int] = []

    @contextmanager
    def after_six_steps() -> Iterator[Callable[[], bool]]:
        def interrupted() -> bool:
            looked.append(1)
            return len(looked) == 6

        yield interrupted

    with monkeypatch.context() as patch, own_logging():
        patch.setattr(fit_module, "interrupts", after_six_steps)
        with pytest.raises(SystemExit):
            main(["fit", *settings, "latents.z.K=3", "seed=4", f"run={first}"])
    before = (first / "metrics.jsonl").read_bytes()
    status, out, log = shell(conf, "mine", f"run={tmp_path / 'run'}", "jobs=2")
    assert status == 0, log
    lines = read_metrics(first / "metrics.jsonl")
    assert [line["step"] for line in lines if line["split"] == "train"] == list(range(1, 13))
    assert (first / "metrics.jsonl").read_bytes().startswith(before)
    assert "resume=true" in (first / OUTPUT).read_text()
    figures = [json.loads((tmp_path / "run" / K / "seed4" / "evaluation.json").read_text()) for K in "32"]
    rows = [line.split("|")[1:-1] for line in out.splitlines()[2:]]
    for row, own in zip(rows, figures, strict=True):
        value = own["fidelity/kl_per_token"]
        assert row[3].strip() == f"{round(value, 4) + 0.0:.3g}"
    status, again, log = shell(conf, "mine", f"run={tmp_path / 'run'}", "jobs=2")
    assert (status, again) == (0, out)
    assert "2 cells, 0 of them to run" in log
