"""What the documents say is so: figures, commands, files and links."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, ListConfig, OmegaConf
from stratagem.guides import AmortizedGuide
from stratagem.inference.build import node
from stratagem.inference.commands import main
from stratagem.inference.commands.main import BARE
from stratagem.inference.data import TaskData
from stratagem.inference.evaluation import evaluate
from stratagem.inference.metrics import read_metrics
from stratagem.models import (
    Categorical,
    KeyValuePrefix,
    Latent,
    LatentLM,
    Normal,
    PooledRouter,
    load_backbone,
)
from stratagem.models.backbone import base_path
from stratagem.tasks import Sorting

from .fit_fixtures import own_logging

ROOT = Path(__file__).parents[1]

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

SMALL = ["fit.steps=2", "fit.eval_every=2", "fit.batch_size=4", "fit.progress=false", "device=cpu"]
SMALL += ["data.max_new_tokens=8", "fit.start_cost=0"]
SMALL_TASK = ["data.num_train=8", "data.responses_per_prompt=1", "data.num_test=4"]

BLOCK = re.compile(
    r"(?:<!-- (?P<key>\w+): (?P<name>.+?) -->\n)?```(?P<language>\w+)\n(?P<body>.*?)```", re.DOTALL
)


def blocks(path: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(path.read_text()))


def written_files(path: Path) -> dict[str, str]:
    """The files that a document shows in full, by name."""
    return {block["name"]: block["body"] for block in blocks(path) if block["key"] == "file"}


def commands(path: Path) -> list[list[str]]:
    """The words of each ``stratagem`` command of a document, the last of a chain included."""
    found = []
    for block in blocks(path):
        for line in block["body"].splitlines() if block["language"] == "sh" else ():
            words = [word for word in shlex.split(line.split("&&")[-1]) if not word.startswith("PYTHONPATH=")]
            if words and Path(words[0]).name == "stratagem":
                found.append(words[1:])
    return found


CELLS = sorted(path.parent for path in (ROOT / "benchmarks" / "cells").rglob("cell.json"))

COMMANDS = [(path, words) for path in DOCUMENTS for words in commands(path)]


def documented() -> dict[str, re.Pattern[str]]:
    """Names of figures in docs/evaluation.md, each with the pattern of the names it stands for."""
    names = {}
    for line in (ROOT / "docs" / "evaluation.md").read_text().splitlines():
        row = re.match(r"\| `(?P<name>[^`]+)` \| (?P<error>±?) ?\| (?P<also>[^|]*)\|", line)
        if row is None:
            continue
        for ending in ("", *re.findall(r"`(\w+)`", row["also"])):
            for error in ("", "_se") if row["error"] else ("",):
                name = f"{row['name']}{ending}{error}"
                names[name] = re.compile(re.sub("<k>", "[0-9]+", re.sub("<site>", "[a-z]+", re.escape(name))))
    return names


@pytest.fixture(scope="module")
def produced(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every name that an evaluation gives, with one latent, two latents, and a continuous one."""
    data = TaskData(Sorting(), num_train=8, num_test=24)
    backbone = load_backbone("bundled:strategies")
    cases: list[dict[str, Latent]] = [
        {"z": Categorical(2)},
        {"z": Categorical(2), "w": Categorical(2)},
        {"z": Normal(2)},
    ]
    names: set[str] = set()
    for case, latents in enumerate(cases):
        torch.manual_seed(0)
        model = LatentLM(backbone, latents, PooledRouter, KeyValuePrefix)
        folder = tmp_path_factory.mktemp("cache") / str(case)
        names |= set(evaluate(model, AmortizedGuide(model), data, 0, folder).figures)
    return names


def test_every_figure_is_documented(produced: set[str]) -> None:
    patterns = documented().values()
    assert [name for name in produced if not any(p.fullmatch(name) for p in patterns)] == []


def test_every_documented_figure_exists(produced: set[str]) -> None:
    patterns = documented()
    assert patterns
    assert [name for name, p in patterns.items() if not any(p.fullmatch(n) for n in produced)] == []


@pytest.mark.parametrize(("path", "words"), COMMANDS, ids=[f"{p.name}-{' '.join(w)}" for p, w in COMMANDS])
def test_every_command_composes(path: Path, words: list[str], tmp_path: Path) -> None:
    for name, content in written_files(path).items():
        write(tmp_path / name, content)
    command, *rest = words
    if command in BARE and "=" not in rest[0]:
        rest[0] = f"{BARE[command]}={rest[0]}"
    folders = [word.split("=", 1)[1] for word in rest if word.startswith("--config-dir=")]
    overrides = [
        word.split(",")[0] if "--multirun" in rest else word for word in rest if not word.startswith("--")
    ]
    overrides += [f"hydra.searchpath=[file://{tmp_path / folder}]" for folder in folders]
    assert composed(command, overrides)


def composed(command: str, overrides: list[str]) -> DictConfig:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return compose(command, overrides)


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the README speaks of, to run its commands in."""
    shutil.copytree(base_path("bundled:strategies"), tmp_path / "path/to/lm")
    task = Sorting()
    prompts = task.prompts(12, "train", 0)
    write(tmp_path / "prompts.txt", "".join(f"{prompt}\n" for prompt in prompts))
    rows = [f"{prompt},{task.trace(prompt, 'merge', ';')}\n" for prompt in prompts]
    write(tmp_path / "pairs.csv", "".join(["question,answer\n", *rows]))
    for name, content in written_files(ROOT / "README.md").items():
        write(tmp_path / name, content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stratagem"])
    with own_logging():
        yield tmp_path
    sys.modules.pop("program", None)


def test_the_tour_of_the_readme_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command in its order, the fits made small and the sweeps of two values at most, then the script."""
    for command, *rest in commands(ROOT / "README.md"):
        words = [command, *rest]
        if "--multirun" in rest:
            words = [",".join(word.split(",")[:2]) for word in words]
        if command == "fit":
            words += SMALL + ([] if any(word.startswith("data=") for word in rest) else SMALL_TASK)
        elif command == "experiment":
            common = ",".join(f"'{word}'" for word in [*SMALL, *SMALL_TASK])
            words += ["only=[sorting,0]", f"experiment.common=[{common}]"]
        elif command == "prune":
            words += ["steps=2", "limit=8"]
        try:
            main(words)
        except SystemExit as stop:
            pytest.fail(f"stratagem {' '.join(words)} ended with {stop.code}: {capsys.readouterr()}")
    assert (desk / "pairs.inferred.csv").is_file()
    assert len(list((desk / "runs/seeds").glob("*/evaluation.json"))) == 2
    assert (desk / "runs/three/compare.png").is_file()
    capsys.readouterr()
    runpy.run_path(str(desk / "steer.py"))
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_the_run_folder_is_as_told(desk: Path) -> None:
    told = re.findall(r"^\| (`[^|]+`) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    names = {name.rstrip("/") for cell in told for name in re.findall(r"`([^`]+)`", cell)}
    main(["fit", "run=runs/first", "fit.starts=2", "fit.start_steps=1", *SMALL, *SMALL_TASK])
    main(["diagnose", "run=runs/first"])
    assert {path.name for path in (desk / "runs/first").iterdir()} == names


def test_an_objective_is_added_as_told(tmp_path: Path) -> None:
    """The two files, word by word, in a folder that is no part of the repository, and the command as printed."""
    for name, content in written_files(ROOT / "CONTRIBUTING.md").items():
        write(tmp_path / name, content)
    (line,) = (
        line
        for b in blocks(ROOT / "CONTRIBUTING.md")
        for line in b["body"].splitlines()
        if "prior_mean run" in line
    )
    assignment, *words = shlex.split(line)
    variable, _, value = assignment.partition("=")
    command = [sys.executable, "-c", "from stratagem.inference.commands import main; main()", *words[1:]]
    done = subprocess.run(
        [*command, *SMALL, *SMALL_TASK],
        cwd=tmp_path,
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = read_metrics(tmp_path / "runs/prior_mean/metrics.jsonl")
    assert [row["split"] for row in found] == ["train", "train", "test"]
    assert "term/guide" in found[0]
    assert (tmp_path / "runs/prior_mean/evaluation.json").is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose)
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert broken == []


def test_the_readme_marks_what_ci_runs() -> None:
    marked = {block["name"]: block["body"] for block in blocks(ROOT / "README.md") if block["key"] == "ci"}
    assert sorted(marked) == ["main job", "tests"]
    assert all(body.count("\n") == 1 for body in marked.values())


def test_the_tables_of_experiments_are_those_of_their_cells() -> None:
    """``python docs/cells.py`` writes them anew."""
    script = runpy.run_path(str(ROOT / "docs" / "cells.py"))
    for path in script["PAGES"]:
        assert path.read_text() == script["renewed"](path.read_text())


@pytest.mark.parametrize("folder", CELLS, ids=[str(f.relative_to(ROOT / "benchmarks/cells")) for f in CELLS])
def test_the_cells_are_of_the_present_configuration(folder: Path) -> None:
    ((command, *settings), *_) = json.loads((folder / "cell.json").read_text())["commands"]
    then = OmegaConf.load(folder / "config.yaml")
    assert then.seed == int(folder.name.removeprefix("seed"))
    assert of_a_cell(then) == present(command, *settings)


@cache
def present(command: str, *settings: str) -> dict[str, object]:
    """What a command with these settings would do, whatever the seed."""
    return of_a_cell(composed(command, list(settings)))


def of_a_cell(config: DictConfig | ListConfig) -> dict[str, object]:
    keys = ("data", "model", "guide", "inference", "optim", "roles", "lm")
    return {key: node(config, key) for key in keys} | {"fit": {**node(config, "fit"), "progress": None}}


def test_the_tables_of_algorithms_are_those_of_the_code() -> None:
    """``python docs/tables.py`` writes them anew."""
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    page = (ROOT / "docs" / "inference.md").read_text()
    assert page == tables["renewed"](page)


def test_every_part_says_where_it_is_from_and_whether_it_is_biased() -> None:
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    for name in ("objectives", "gradients", "terms"):
        head, rows = tables["TABLES"][name]()
        for row in rows:
            cells = dict(zip(head, row, strict=True))
            assert cells["formula and source"], row
            assert cells["bias"], (
                f"{row[0]}: its docstring does not say whether it is exact, unbiased or biased"
            )
