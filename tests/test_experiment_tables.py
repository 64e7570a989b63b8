"""Tables of an experiment: medians, the worst by direction, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from stratagem.inference.experiments import Outcome, OverSeeds, Table

from .experiment_fixtures import Axes, cells_of


def outcomes(axes: Axes, figures: Mapping[str, dict[str, float]]) -> list[Outcome]:
    seeds = sorted({int(name[-1]) for name in figures})
    return [Outcome(cell, Path(cell.name), figures.get(cell.name, {})) for cell in cells_of(axes, seeds)]


def test_a_row_has_the_median_and_the_worst_by_direction() -> None:
    """The worst of a figure of which less is better is the largest; what is missing is told, never made up."""
    values = {"a": (0.9, 0.7, 0.8), "b": (0.1, 0.3, 0.2)}
    found = {
        f"{task}/seed{seed}": {"meaning/alignment": v, "fidelity/kl_per_token": v, "seconds": 1234.4 + seed}
        for task, row in values.items()
        for seed, v in enumerate(row)
    }
    del found["b/seed1"]
    del found["a/seed2"]["meaning/alignment"]
    tasks: Axes = {"task": {"a": [], "b": [], "c": []}}
    names = {
        "meaning/alignment": "aligned",
        "fidelity/kl_per_token": "KL(p0|p)",
        "seconds": None,
        "meaning/ami": None,
    }
    (table,) = OverSeeds(names).tables(outcomes(tasks, found))
    assert table.head == ["task", "runs", "aligned", "KL(p0|p)", "seconds", "meaning/ami"]
    assert table.rows == [
        ["a", "3", "0.8 (0.7; 2 of 3)", "0.8 (0.9)", "1235 (1236)", "-"],
        ["b", "2 of 3", "0.15 (0.1)", "0.15 (0.2)", "1235 (1236)", "-"],
        ["c", "0 of 3", "-", "-", "-", "-"],
    ]
    assert table.markdown().splitlines()[0].startswith(r"| task | runs   | aligned           | KL(p0\|p)  |")
    first, second, _ = table.records
    kl = {end: first[f"fidelity/kl_per_token_{end}"] for end in ("median", "worst", "least", "largest")}
    assert kl == {"median": 0.8, "worst": 0.9, "least": 0.7, "largest": 0.9}
    assert [first[f"fidelity/kl_per_token_seed{k}"] for k in range(3)] == [0.9, 0.7, 0.8]
    assert first["meaning/alignment_worst"] == 0.7
    assert second["meaning/alignment_seed1"] is None
    assert second["meaning/ami_median"] is None


def test_axes_that_are_no_rows_are_pooled_with_the_seeds() -> None:
    axes: Axes = {"task": {"a": []}, "K": {"2": [], "4": []}}
    found = {f"a/{K}/seed{s}": {"use/usage": float(K * 10 + s)} for K in (2, 4) for s in (0, 1)}
    (table,) = OverSeeds({"use/usage": None}, ["task"]).tables(outcomes(axes, found))
    assert table.rows == [["a", "4", "30.5 (20)"]]
    assert table.records[0]["use/usage_4/seed1"] == 41
    (each,) = OverSeeds({"use/usage": None}, ["K"]).tables(outcomes(axes, found))
    assert each.rows == [["2", "2", "20.5 (20)"], ["4", "2", "40.5 (40)"]]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (0.98765, "0.988"),
        (0.0005533, "0.0006"),
        (-0.00001, "0"),
        (-0.0042, "-0.0042"),
        (5.362, "5.36"),
        (999.4, "999"),
        (999.6, "1000"),
        (1562.4, "1562"),
    ],
)
def test_a_figure_of_one_run_stands_alone_in_three_digits(value: float, cell: str) -> None:
    (table,) = OverSeeds({"skill/accuracy": None}).tables(
        outcomes({"task": {"a": []}}, {"a/seed0": {"skill/accuracy": value}})
    )
    assert table.rows == [["a", "1", cell]]


def test_a_table_has_a_title_and_columns_in_line() -> None:
    shown = Table("t", ["a", "longer"], [["1", "2"], ["10000", ""]], [], "A title").markdown()
    assert (
        shown == "A title\n\n| a     | longer |\n| ----- | ------ |\n| 1     | 2      |\n| 10000 |        |"
    )
