"""The grid of an experiment: its cells, those that are chosen, and grids that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import InstantiationException
from stratagem.inference.commands.experiment import make_experiment
from stratagem.inference.experiments import Experiment, OverSeeds, choose

from .experiment_fixtures import AXES, SUMMARY, cells_of
from .test_docs import documented


def test_the_cells_are_the_grid_in_its_order() -> None:
    axes: Any = {"task": {"a": ["task=a"], "b": None}, "K": {2: ["z.K=2"], 4: ["z.K=4", "~w"]}}
    experiment = Experiment(axes, [3, 1], SUMMARY, ["lm=x"], [["prune", "least=0.1"]])
    cells = experiment.cells(["device=cpu"])
    folders = [f"{task}/{K}/seed{seed}" for task in "ab" for K in (2, 4) for seed in (3, 1)]
    assert [cell.name for cell in cells] == folders
    prune = ["prune", "least=0.1", "device=cpu"]
    assert cells[2].commands == [["fit", "lm=x", "task=a", "z.K=4", "~w", "device=cpu"], prune]
    assert cells[-1].commands == [["fit", "lm=x", "z.K=4", "~w", "device=cpu"], prune]
    assert cells[-1].labels == {"task": "b", "K": "4"}
    assert [cell.name for cell in Experiment({}, [0], SUMMARY).cells()] == ["seed0"]


ONLY: dict[str, tuple[Any, set[str]]] = {
    "a label": ("a", {"a/2/seed0", "a/2/seed2", "a/4/seed0", "a/4/seed2"}),
    "labels of two axes": (["a", 4], {"a/4/seed0", "a/4/seed2"}),
    "a seed": (0, {"a/2/seed0", "a/4/seed0", "b/2/seed0", "b/4/seed0"}),
    "a seed by its folder": (["seed2", "b"], {"b/2/seed2", "b/4/seed2"}),
    "either": (["a", "b", "seed0", "4"], {"a/4/seed0", "b/4/seed0"}),
    "a pattern": ("*/4/seed[02]", {"a/4/seed0", "a/4/seed2", "b/4/seed0", "b/4/seed2"}),
    "a name and another": (["a/4/seed0", "b/2/*"], {"a/4/seed0", "b/2/seed0", "b/2/seed2"}),
}


@pytest.mark.parametrize("case", ONLY)
def test_only_names_labels_seeds_and_patterns(case: str) -> None:
    only, wanted = ONLY[case]
    cells = cells_of({"task": {"a": [], "b": []}, "K": {"2": [], "4": []}}, (0, 2))
    assert {cell.name for cell in choose(cells, only)} == wanted


@pytest.mark.parametrize("only", ["c", [7], ["a", "b/*"], [], 0.5])
def test_only_that_matches_nothing_says_what_there_is(only: Any) -> None:
    cells = cells_of({"task": {"a": [], "b": []}})
    with pytest.raises(ValueError, match=r"only=.*no such cell; there are task: a, b; seed: 0, 1"):
        choose(cells, only)


def test_only_that_could_be_either_asks_which() -> None:
    cells = cells_of({"task": {"a": [], "b": []}, "K": {"2": [], "4": []}}, (0, 2))
    expected = r"only=2: K and seed each have one; give a pattern of names, \*/2/\*, or seed2 for a seed"
    with pytest.raises(ValueError, match=expected):
        choose(cells, ["a", 2])
    assert {cell.name for cell in choose(cells, "*/2/*")} == {
        f"{t}/2/seed{seed}" for t in "ab" for seed in (0, 2)
    }
    assert {cell.name for cell in choose(cells, "seed2")} == {f"{t}/{K}/seed2" for t in "ab" for K in (2, 4)}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no seeds": ({"seeds": []}, r"seeds=\[\]: expected a list of one whole number or more"),
    "a number of seeds": ({"seeds": 5}, r"seeds=5: expected a list"),
    "words for seeds": ({"seeds": ["a"]}, r"seeds=\['a'\]: expected a list"),
    "a seed twice": ({"seeds": [1, 1]}, r"seeds=\[1, 1\]: expected different"),
    "below zero": ({"seeds": [-1]}, r"seeds=\[-1\]: expected different numbers, none below 0"),
    "no axes": ({"axes": None}, "axes: expected a mapping"),
    "no labels": ({"axes": {"task": {}}}, r"axes\.task: expected its labels"),
    "an axis of seeds": ({"axes": {"seed": {"a": []}}}, "axes: seed: expected a word, and not seed"),
    "a label that leads elsewhere": (
        {"axes": {"task": {"../a": []}}},
        r"axes\.task: \.\./a: expected a label",
    ),
    "a text for a list": ({"common": "fit.steps=4"}, r"common: fit\.steps=4: expected a list"),
    "no setting": ({"common": ["fit.steps"]}, r"common: fit\.steps: expected a text key=value"),
    "an option": ({"common": ["--multirun"]}, "common: --multirun: expected a text key=value"),
    "a mapping": ({"axes": {"task": {"a": [{"K": 2}]}}}, r"axes\.task\.a: \{'K': 2\}: expected a text"),
    "its own seed": (
        {"axes": {"task": {"a": ["seed=3"]}}},
        r"axes\.task\.a: seed=3: the experiment gives seed",
    ),
    "its own run": ({"then": [["prune", "run=a"]]}, "then: prune: run=a: the experiment gives run"),
    "a command of one word": ({"then": ["prune"]}, "then: prune: expected a list of words"),
    "rows of no axis": (
        {"summary": OverSeeds({"a": None}, ["K"])},
        r"summary\.rows: no axis K; there are size",
    ),
    "no figures": ({"summary": OverSeeds({})}, r"summary\.figures: no figures"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_experiment_that_cannot_be_is_refused_before_the_first_fit(case: str) -> None:
    wrong, named = REFUSED[case]
    with pytest.raises(ValueError, match=named):
        Experiment(**({"axes": AXES, "seeds": [0], "summary": SUMMARY} | wrong))


def test_the_experiment_on_the_strategies_is_thirty_fits_that_compose() -> None:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        config = compose("experiment", ["experiment=strategies"], return_hydra_config=True)
        cells = make_experiment(config).cells()
        tasks = {}
        for cell in cells:
            tasks[cell.labels["task"]] = compose("fit", cell.commands[0][1:]).data.task["_target_"]
    figures = [name for name in config.experiment.summary.figures if name != "seconds"]
    known = documented().values()
    assert [name for name in figures if not any(pattern.fullmatch(name) for pattern in known)] == []
    assert len(cells) == 30
    assert {task: target.rpartition(".")[2].lower() for task, target in tasks.items()} == {
        task: task.replace("_", "") for task in tasks
    }
    assert len(tasks) == 6


def test_settings_of_the_command_line_are_given_to_every_fit_after_the_common_ones() -> None:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        words = ["experiment=strategies", "settings=['lm=path/to/lm','fit.steps=5']"]
        cells = make_experiment(compose("experiment", words)).cells()
        with pytest.raises(ValueError, match=r"settings=fit\.steps: expected a list"):
            make_experiment(compose("experiment", ["experiment=strategies", "settings=fit.steps"]))
        with pytest.raises(InstantiationException, match="common: seed=3: the experiment gives seed itself"):
            make_experiment(compose("experiment", ["experiment=strategies", "settings=['seed=3']"]))
    for cell in cells:
        words = cell.commands[0]
        assert words[:4] == ["fit", "lm=bundled:strategies", "lm=path/to/lm", "fit.steps=5"]
        assert words[4].startswith("task@data.task=")
