"""Probes of a latent space: on spaces that are known, and by the command."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from stratagem.inference.commands import main
from stratagem.inference.dataset import Dataset
from stratagem.inference.probes import Disentangled, Neighbours, Readable, Space

from .fit_fixtures import own_logging, save_tiny_base, tiny_fit

N = 400


def space_of(points: np.ndarray, **labels: list[str]) -> Space:
    data = Dataset([], [f"x{i}" for i in range(len(points))], [f"y{i}" for i in range(len(points))], 0)
    return Space(points, [f"z[{d}]" for d in range(points.shape[1])], data, labels)


def known() -> Space:
    """Two labels, each the sign of a coordinate, and a coordinate that is noise."""
    rng = np.random.default_rng(0)
    colour, size = rng.integers(2, size=(2, N))
    points = np.stack([2.0 * colour - 1, 2.0 * size - 1, rng.normal(size=N)], 1) + 0.05 * rng.normal(
        size=(N, 3)
    )
    return space_of(
        points, colour=[["red", "blue"][c] for c in colour], size=[["small", "large"][s] for s in size]
    )


def test_coordinates_that_stand_for_labels_are_disentangled() -> None:
    found = Disentangled()(known())
    told = {name: value for name, value in found.figures.items() if not name.endswith("_chance")}
    assert all(value > 0.9 for name, value in told.items() if name != "dci/completeness")
    assert {f"{name}_chance" for name in told} == found.figures.keys() - told.keys()
    assert all(
        found.figures[f"{name}_chance"] < 0.3 for name in ("mig", "sap", "dci/informativeness", "info_e")
    )
    first, second, noise, chance = found.rows
    assert (first["coordinate"], second["coordinate"]) == ("z[0]", "z[1]")
    assert float(first["colour"]) > 0.99 > 0.1 > float(first["size"])
    assert max(float(noise["colour"]), float(noise["size"])) < 0.1
    assert chance["coordinate"] == "by chance"
    assert 0 < float(chance["colour"]) < 0.1
    assert found.picture is not None
    assert {t.get_text() for t in found.picture.axes[0].get_xticklabels()} == {"colour", "size"}


def test_one_label_is_enough_for_what_needs_one() -> None:
    space = known()
    found = Disentangled()(space_of(space.points, colour=space.labels["colour"]))
    assert {"mig", "sap", "info_m"} <= set(found.figures)
    assert not {"modularity", "z_diff", "z_min_var"} & set(found.figures)


def test_what_tells_nothing_has_the_figures_of_chance() -> None:
    """Of 60 texts and 8 coordinates of noise a linear reader seems to know something, and so it does by chance."""
    rng = np.random.default_rng(0)
    gaps: dict[str, list[float]] = {}
    for seed in range(8):
        words = [["red", "blue"][c] for c in rng.integers(2, size=60)]
        figures = Disentangled(seed=seed)(space_of(rng.normal(size=(60, 8)), colour=words)).figures
        for name in ("mig", "info_e"):
            gaps.setdefault(name, []).append(figures[name] - figures[f"{name}_chance"])
        assert figures["info_e_chance"] > 0.05
    for name, found in gaps.items():
        assert abs(np.mean(found)) < 4 * np.std(found, ddof=1) / len(found) ** 0.5, name


def test_data_without_a_label_are_left_out() -> None:
    space = known()
    words = ["unknown" if i % 3 else word for i, word in enumerate(space.labels["colour"])]
    assert Disentangled()(space_of(space.points, colour=words)).figures["mig"] > 0.8
    assert Readable()(space_of(space.points, colour=words)).figures["readable/colour/linear"] > 0.99


def test_a_folded_label_is_read_by_the_second_reader_alone() -> None:
    space = known()
    same = [
        str(a == b)
        for a, b in zip(
            space.labels["colour"],
            [{"small": "red", "large": "blue"}[s] for s in space.labels["size"]],
            strict=True,
        )
    ]
    found = Readable()(space_of(space.points[:, :2], same=same)).figures
    assert found["readable/same/mlp"] > 0.98
    assert found["readable/same/linear"] < 0.65
    assert 0.5 <= found["readable/same/chance"] < 0.6
    assert 0 < found["readable/same/linear_se"] < 0.05


def test_neighbours_are_those_with_the_nearest_points() -> None:
    points = np.array([[0.0], [0.1], [1.0], [1.1], [1.3]])
    found = Neighbours(number=1, shown=3)(space_of(points, kind=["a", "a", "b", "b", "a"]))
    assert [row["text"] for row in found.rows] == ["x0 y0", "x1 y1", "x2 y2"]
    assert [row["neighbour 1"] for row in found.rows] == ["x1 y1", "x0 y0", "x3 y3"]
    assert found.figures["neighbours/kind"] == pytest.approx(4 / 5)
    assert found.figures["neighbours/kind_chance"] == pytest.approx((3 * 2 + 2) / 20)


def test_what_cannot_be_asked_is_refused() -> None:
    space = known()
    with pytest.raises(ValueError, match="no label with two values or more"):
        Disentangled()(space_of(space.points, colour=["red"] * N))
    with pytest.raises(ValueError, match="shuffles must be at least 1, got 0"):
        Disentangled(shuffles=0)
    with pytest.raises(ValueError, match="folds must be at least 2 and width at least 1, got 1 and 64"):
        Readable(folds=1)
    rare = ["rare" if i < 2 else "common" for i in range(N)]
    with pytest.raises(ValueError, match="label kind: rare is that of 2 data, fewer than the 5 folds"):
        Readable()(space_of(space.points, kind=rare))
    with pytest.raises(ValueError, match="number and shown must be at least 1, got 0 and 10"):
        Neighbours(number=0)
    with pytest.raises(ValueError, match="3 texts have no 5 neighbours each"):
        Neighbours()(space_of(space.points[:3]))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(
    "more", [(), ("latent@latents.z=normal", "latents.z.D=2", "inference=elbo_pathwise")]
)
def test_the_command_prints_and_writes_what_it_finds(
    more: tuple[str, ...],
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["stratagem"])
    run = tmp_path / "run"
    with own_logging():
        main([*map(str, tiny_fit(base, run, "data.num_test=60", *more))])
        capfd.readouterr()
        main(["probe", f"run={run}", "device=cpu", "probe=neighbours", "probe.number=2"])
        said = capfd.readouterr().out
        for labels in ("[nuisance]", "nuisance"):
            main(
                [
                    "probe",
                    f"run={run}",
                    "device=cpu",
                    "probe=neighbours",
                    "probe.number=2",
                    f"labels={labels}",
                ]
            )
            assert "neighbours/nuisance" in capfd.readouterr().out
        with pytest.raises(SystemExit):
            main(["probe", f"run={run}", "device=cpu", "labels=[colour]"])
    assert (
        "labels=colour: the data of the run have no such names; they have strategy and nuisance"
        in "".join(capfd.readouterr())
    )
    assert said.splitlines()[0].split()[:3] == ["text", "neighbour", "1"]
    rows = list(csv.DictReader((run / "probes" / "neighbours.csv").read_text().splitlines()))
    assert list(rows[0]) == ["text", "neighbour 1", "neighbour 2"]
    assert len(rows) == 10
    json.loads((run / "probes" / "neighbours.json").read_text())
