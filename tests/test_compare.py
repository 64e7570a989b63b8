"""Comparing runs: which rows they fall into, what the table, the file and the picture say, and what is left out."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from stratagem.inference.commands import main
from stratagem.inference.commands.main import folder_name
from stratagem.inference.comparison import Row, Run, find_runs, ranked, read_run, rows_of
from stratagem.inference.comparison_figure import Axis, picture
from stratagem.inference.metrics import read_metrics
from stratagem.inference.peak_memory import PeakMemory

from .fit_fixtures import own_logging, save_tiny_base, tiny_fit

Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Compare:
    """Runs the command in this process: its status, its output and its log."""
    monkeypatch.setattr(sys, "argv", ["stratagem"])

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = 0
        with own_logging():
            try:
                main(["compare", *map(str, words)])
            except SystemExit as stop:
                status = int(stop.code or 0)
        return (status, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two algorithms, two seeds each, made by the command that the documents name."""
    folder = tmp_path_factory.mktemp("sweep") / "runs"
    base = save_tiny_base(tmp_path_factory.mktemp("base"))
    with pytest.MonkeyPatch.context() as patch, own_logging():
        patch.setattr(sys, "argv", ["stratagem"])
        main(tiny_fit(base, folder, "--multirun", "inference=marginal,elbo", "seed=0,1"))
    return folder


def by_hand(sweep: Path) -> dict[str, dict[str, list[float]]]:
    """The figures of each run, read from its files, by algorithm and name."""
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(sweep.rglob("config.yaml")):
        figures = json.loads((path.parent / "evaluation.json").read_text())
        lines = read_metrics(path.parent / "metrics.jsonl")
        train = [line for line in lines if line["split"] == "train"]
        figures["bound"] = [line["bound"] for line in lines if line["split"] == "test"][-1]
        figures["seconds"] = median(line["seconds"] for line in train)
        figures["peak_memory"] = max(line["peak_memory"] for line in train)
        terms = OmegaConf.load(path).inference.terms
        of_algorithm = found.setdefault("marginal" if terms else "elbo", {})
        for name, value in figures.items():
            of_algorithm.setdefault(name, []).append(value)
    return found


def test_a_sweep_is_a_table_with_a_row_for_each_algorithm(compare: Compare, sweep: Path) -> None:
    status, out, log = compare(sweep)
    assert (status, log) == (0, "")
    truth = by_hand(sweep)
    assert {name: len(figures["bound"]) for name, figures in truth.items()} == {"marginal": 2, "elbo": 2}
    with (sweep / "compare.csv").open() as file:
        rows = {row["inference"]: row for row in csv.DictReader(file)}
    assert rows.keys() == truth.keys()
    wanted = ["bound", "fidelity/log_marginal", "fidelity/kl_per_token", "use/mutual_information"]
    wanted += ["use/verdict", "meaning/alignment", "seconds", "peak_memory"]
    for algorithm, row in rows.items():
        assert row["runs"] == "2"
        for name in wanted:
            values = truth[algorithm][name]
            for ending, value in (("", median(values)), ("_min", min(values)), ("_max", max(values))):
                assert float(row[name + ending]) == pytest.approx(value), name + ending
    header, units, *lines = out.splitlines()
    assert header.split()[:2] == ["inference", "runs"]
    assert re.findall(r"\S*nats/\w+|s/step|MiB", units) == [
        *["nats/sequence"] * 2,
        "nats/token",
        "nats/sequence",
        "s/step",
        "MiB",
    ]
    best = max(truth, key=lambda name: median(truth[name]["bound"]))
    assert lines[0].split()[:3] == [best, "2", f"{median(truth[best]['bound']):.4g}"]
    assert lines[1].split()[0] == f"{min(truth[best]['bound']):.4g}..{max(truth[best]['bound']):.4g}"
    assert len(lines) == 4
    assert all((sweep / f"compare.{ending}").stat().st_size > 10_000 for ending in ("png", "svg"))
    assert "held-out bound (nats/sequence)" in (sweep / "compare.svg").read_text()


def test_the_folder_may_be_given_either_way(compare: Compare, sweep: Path) -> None:
    assert compare(sweep) == compare(f"run={sweep}") == compare("sort=bound", sweep)
    one = next(sweep.rglob("config.yaml")).parent  # its name has an equals sign
    status, out, _ = compare(one)
    assert status == 0
    assert out.splitlines()[2].split()[0] == "1"


@pytest.mark.parametrize(
    ("figure", "best"),
    [("fidelity/kl_per_token", min), ("use/mutual_information", max), ("seconds", min), ("use/usage", max)],
)
def test_the_rows_are_sorted_as_asked(compare: Compare, sweep: Path, figure: str, best: Any) -> None:
    assert compare(sweep, f"sort={figure}")[0] == 0
    with (sweep / "compare.csv").open() as file:
        first, second = [float(row[figure]) for row in csv.DictReader(file)]
    assert first == best(first, second)
    assert first != second


def test_runs_that_have_not_ended_are_named(compare: Compare, sweep: Path, tmp_path: Path) -> None:
    """One stopped on its way, one with a broken file, one refused; the row is made of what is left."""
    folder = shutil.copytree(sweep, tmp_path / "runs")
    runs = sorted(path.parent for path in folder.rglob("config.yaml"))
    (runs[0] / "evaluation.json").unlink()
    lines = (runs[0] / "metrics.jsonl").read_text().splitlines(keepends=True)
    (runs[0] / "metrics.jsonl").write_text("".join(lines[:7]))
    (runs[1] / "evaluation.json").write_text("{")
    (folder / "refused").mkdir()
    (folder / "refused/log.txt").write_text("no\n")
    status, out, log = compare(folder)
    assert status == 0
    named = dict(line.split(": ", 1) for line in log.splitlines())
    assert named.keys() == {str(path) for path in (*runs[:2], folder / "refused")}
    assert named[str(runs[0])] == "stopped after step 4 of 12; go on with resume=true"
    assert re.match(r"evaluation\.json cannot be read: .* run stratagem evaluate", named[str(runs[1])])
    assert "before its first step" in named[str(folder / "refused")]
    assert len(find_runs(folder).runs) == 2
    assert "2" in out.splitlines()[2].split()
    for path in runs[2:]:
        (path / "config.yaml").unlink()
    status, out, log = compare(folder)
    assert (status, out) == (1, "")
    assert log.splitlines()[-1] == (
        f"run={folder}: no run that has ended in this folder; runs are made by stratagem fit"
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], r"no folder given; stratagem compare DIR"),
        (["nowhere"], "run=nowhere: no folder there"),
        (["{}"], "no run that has ended in this folder"),
        (["{sweep}", "sort=fidelity/kl"], r"sort=fidelity/kl: no run has this figure; there are bound, fid"),
    ],
)
def test_a_bad_comparison_gets_one_line(
    words: list[str], named: str, compare: Compare, sweep: Path, tmp_path: Path
) -> None:
    status, out, log = compare(*(word.format(tmp_path, sweep=sweep) for word in words))
    assert (status, out) == (1, "")
    assert len(log.splitlines()) == 1
    assert re.search(named, log)


def made(seed: int, bound: float = -1.0, options: str = "", **settings: Any) -> Run:
    """A run without a folder, of settings with dots written as ``__``."""
    choices = dict(option.split("=") for option in options.split())
    named = {name.replace("__", "."): str(value) for name, value in settings.items()}
    return Run(Path(str(seed)), named, choices, {"bound": bound})


def settings_of(rows: list[Row]) -> list[tuple[Mapping[str, str], int]]:
    return [(row.settings, len(row.runs)) for row in rows]


def test_runs_that_differ_in_the_seed_alone_are_one_row() -> None:
    rows = rows_of([made(seed, lm="a", fit__steps=3) for seed in range(3)])
    assert settings_of(rows) == [({}, 3)]
    assert rows[0].label == "all runs"


def test_an_option_stands_for_what_it_sets() -> None:
    """Of what lies under it only that is told in which runs with the same option differ."""
    many = {"inference__objective___target_": "IWAE", "inference__expectation__num_particles": 8}
    few = many | {"inference__expectation__num_particles": 2}
    other = {"inference__objective___target_": "ELBO"}
    rows = rows_of(
        [made(0, options="inference=iwae guide=a", **many), made(0, options="inference=elbo", **other)]
    )
    assert [row.settings for row in rows] == [
        {"inference": "iwae", "guide": "a"},
        {"inference": "elbo", "guide": ""},
    ]
    runs = [made(seed, options="inference=iwae", **s) for s in (many, few) for seed in (0, 1)]
    rows = rows_of([*runs, made(0, options="inference=elbo", **other)])
    name = "inference.expectation.num_particles"
    assert settings_of(rows) == [
        ({"inference": "iwae", name: "8"}, 2),
        ({"inference": "iwae", name: "2"}, 2),
        ({"inference": "elbo", name: ""}, 1),
    ]
    assert [row.label for row in rows][1:] == [f"inference=iwae {name}=2", "inference=elbo"]


def test_without_options_the_settings_themselves_are_told() -> None:
    rows = rows_of([made(0, inference__objective___target_=name) for name in ("ELBO", "IWAE")])
    assert [row.settings for row in rows] == [
        {"inference.objective": "ELBO"},
        {"inference.objective": "IWAE"},
    ]


def test_a_setting_that_repeats_another_is_told_once() -> None:
    rows = rows_of([made(0, latents__z__K=K, model__latents__z__K=K) for K in (2, 4)])
    assert [row.settings for row in rows] == [{"latents.z.K": "2"}, {"latents.z.K": "4"}]
    rows = rows_of([made(0, latents__z__K=2, model__latents__z__K=K) for K in (2, 4)])
    assert [row.settings for row in rows] == [{"model.latents.z.K": "2"}, {"model.latents.z.K": "4"}]


def test_rows_are_ranked_by_the_median_and_those_without_come_last() -> None:
    runs = [made(0, -3.0, a=1), made(1, -1.0, a=1), made(2, -9.0, a=1), made(0, -2.0, a=2)]
    none = Run(Path("n"), {"a": "3"}, {}, {})
    assert [row.settings["a"] for row in ranked(rows_of([none, *runs]), "bound")] == ["2", "1", "3"]


def test_what_lies_in_a_run_is_its_own(sweep: Path, tmp_path: Path) -> None:
    run = shutil.copytree(next(sweep.rglob("config.yaml")).parent, tmp_path / "runs" / "one")
    (run / "starts/0").mkdir(parents=True)
    shutil.copy(run / "metrics.jsonl", run / "starts/0")
    found = find_runs(tmp_path)
    assert [r.folder for r in found.runs] == [run]
    assert found.notes == {}


def test_a_program_without_an_evaluation_is_in_the_table_and_named(sweep: Path, tmp_path: Path) -> None:
    run = shutil.copytree(next(sweep.rglob("config.yaml")).parent, tmp_path / "one")
    (run / "evaluation.json").unlink()
    found = find_runs(tmp_path)
    assert set(found.runs[0].figures) == {"bound", "seconds", "peak_memory"}
    assert found.notes[run].startswith("no evaluation.json")
    (run / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config\.yaml cannot be read"):
        read_run(run)


def test_the_picture_has_a_point_for_each_run_and_the_median() -> None:
    runs = [made(0, -3.0, a=1), made(1, -1.0, a=1), made(2, -9.0, a=1), made(0, -2.0, a=2)]
    rows = ranked(rows_of(runs), "bound")
    figure = picture(
        rows, [Axis("bound", "held-out bound", "nats/sequence"), Axis("seconds", "time", "s/step")]
    )
    (panel,) = figure.axes
    assert panel.get_xlabel() == "held-out bound (nats/sequence)"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a=2", "a=1"]
    drawn = [(round(y), x) for marks in panel.collections for x, y in marks.get_offsets().tolist()]
    points, medians = [(0, -2.0), (1, -9.0), (1, -3.0), (1, -1.0)], [(0, -2.0), (1, -3.0)]
    assert sorted(drawn) == sorted(points + medians)


def test_the_peak_is_counted_from_where_it_begins() -> None:
    device = torch.device("cpu")
    before = PeakMemory(device)
    start = before.figures()["peak_memory"]
    held = torch.ones(64, 2**20)  # 256 MiB
    during = before.figures()["peak_memory"]
    assert 200 < during - start < 400
    del held
    assert before.figures()["peak_memory"] >= during
    if sys.platform == "linux":
        assert PeakMemory(device).figures()["peak_memory"] < during - 150


def test_the_peak_of_a_gpu_is_what_torch_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: device.index * 2**20)
    memory = PeakMemory(torch.device("cuda", 3))
    assert asked == [torch.device("cuda", 3)]
    assert memory.figures() == {"peak_memory": 3.0}


def test_folders_of_a_sweep_have_names_that_file_systems_take(tmp_path: Path) -> None:
    short = "inference=elbo,lm=/a/b,seed=0"
    assert folder_name(short) == short
    long = [f"{'x' * 300}={k},lm={'y' * 100}/b,seed={k}" for k in range(2)]
    names = [folder_name(words) for words in long]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    assert len(set(names)) == 2
    assert names == [folder_name(words) for words in long]
