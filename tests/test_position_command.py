"""``stratagem position``: its table, its files, its picture, and one plain line for a latent that it cannot read."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest
import torch
from stratagem.inference.position_figure import position_picture
from stratagem.tasks import Sorting

from .fit_fixtures import Command, save_tiny_base, tiny_fit


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def read(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_the_command_writes_its_files_and_prints_the_table(
    command: Command, base: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert command(*tiny_fit(base, run, "conditioning.init_scale=3")).status == 0
    said = command("position", f"run={run}", "device=cpu")
    assert said.status == 0, said.out
    rows = read(run / "position.csv")
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines[2 : 2 + len(rows)]] == [str(t) for t in range(len(rows))]
    figures = json.loads((run / "position.json").read_text())
    assert all(math.isfinite(value) for value in figures.values())
    evaluated = json.loads((run / "evaluation.json").read_text())
    assert rows[-1]["information"] == pytest.approx(evaluated["use/mutual_information"], abs=1e-5)
    assert figures["position/information"] == rows[-1]["information"]
    assert rows[0]["data"] == 16
    assert rows[-1]["nuisance_information"] == pytest.approx(math.log(2))
    for ending in ("png", "svg"):
        assert (run / f"position.{ending}").stat().st_size > 10_000
    assert command("position", f"run={run}", "device=cpu", "limit=5").status == 0
    assert read(run / "position.csv")[0]["data"] == 5


def test_the_command_on_a_file_of_pairs_tells_of_the_latent_alone(
    command: Command, base: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.csv"
    task = Sorting()
    rows = [(p, task.trace(p, "merge", ";")) for p in task.prompts(12, "train", 0)]
    path.write_text("prompt,response\n" + "".join(f"{p},{y}\n" for p, y in rows))
    of_the_task = ("data.num_t", "data.responses_per_prompt")
    every = tiny_fit(base, tmp_path / "run", "data=pairs", f"path={path}")
    words = [word for word in every if not str(word).startswith(of_the_task)]
    said = command(*words)
    assert said.status == 0, said.out
    said = command("position", f"run={tmp_path / 'run'}", "device=cpu")
    assert said.status == 0, said.out
    assert list(read(tmp_path / "run/position.csv")[0]) == ["tokens", "data", "information", "information_se"]
    assert "carries" not in said.out


def test_a_latent_that_cannot_be_enumerated_gets_one_line(
    command: Command, base: Path, tmp_path: Path
) -> None:
    more = ("inference=elbo_pathwise", "latent@latents.z=normal", "latents.z.D=2")
    assert command(*tiny_fit(base, tmp_path / "run", *more)).status == 0
    said = command("position", f"run={tmp_path / 'run'}", "device=cpu")
    assert (said.status, len(said.lines)) == (1, 1)
    assert re.search(
        r"position: latent z \(Normal\) cannot be enumerated.*expected categorical latents", said.out
    )
    assert not (tmp_path / "run/position.csv").exists()


def columns_of(*names: str) -> dict[str, torch.Tensor]:
    tokens = torch.arange(5)
    return {"tokens": tokens, "data": 9 - tokens} | dict.fromkeys(names, tokens / 5)


def test_the_picture_has_a_panel_for_each_quantity_that_is_known() -> None:
    choices = [
        f"{c}_{what}" for what in ("information", "ami", "certainty") for c in ("strategy", "nuisance")
    ]
    every = position_picture(columns_of("information", "information_se", *choices))
    assert [len(axes.lines) for axes in every.axes] == [3, 2, 2]
    assert [len(axes.collections) for axes in every.axes] == [1, 0, 0], "the band of the error"
    assert [axes.get_xlabel() for axes in every.axes] == ["response read (tokens)"] * 3
    assert "(nats)" in every.axes[0].get_ylabel()
    assert len(position_picture(columns_of("information", "information_se")).axes) == 1
