"""What the tasks refuse: prompts, strategies, marks and sizes."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from stratagem.tasks import Addition, BaseConversion, Equations, Expressions, Grid, Sorting, StepTask

from .task_fixtures import CLASSES, every_part


@every_part
@pytest.mark.parametrize(
    "prompt", ["", "tell me a story", "{head} :", "{head} 1 2", "{head} 1 2 3 4 5 6 7 8 9 :"]
)
def test_a_foreign_prompt_is_refused(task: StepTask, prompt: str) -> None:
    prompt = prompt.format(head=task.head)
    with pytest.raises(ValueError, match=rf"^task {task.name}: .* is not a prompt .* '{task.head} "):
        task.admissible(prompt)


@pytest.mark.parametrize(
    ("task", "prompt"),
    [
        (Sorting(), "sort 1 2 3 4 :"),
        (Addition(), "add 1 2 + 3 :"),
        (Addition(), "add 12 + 3 4 :"),
        (Equations(), "solve 3 x + 1 = 3 x + 4 :"),
        (Equations(), "solve 5 x + 1 = 3 x + 4 :"),
        (Equations(), "solve 3 x + 1 = 5 x + 5 :"),
        (Grid(), "path 1 1 # 2 2 :"),
        (Grid(), "path 0 1 # 0 0 :"),
        (Grid(), "path 0 1 # 2 7 :"),
        (BaseConversion(), "base 1 2 3 to 3 :"),
        (BaseConversion(), "base 1 2 to 4 :"),
        (Expressions(), "eval 3 * ( 4 + 5 + 6 ) + 1 :"),
        (Expressions(), "eval 0 * ( 4 + 5 ) + 1 :"),
    ],
)
def test_an_impossible_prompt_is_refused(task: StepTask, prompt: str) -> None:
    for use in (task.admissible, lambda p: task.trace(p, task.strategies[0], ";"), task.law):
        with pytest.raises(ValueError, match=rf"^task {task.name}: '{re.escape(prompt)}' is not a prompt"):
            use(prompt)


@pytest.mark.parametrize("made", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"strategies": ()}, r"distinct names among \w+, .*; got \[\]"),
        ({"strategies": ("guess",)}, r"distinct names among .*got \['guess'\]"),
        ({"nuisances": ()}, r"distinct words.*got \[\]"),
        ({"nuisances": (";", ";")}, "distinct words"),
        ({"nuisances": ("7",)}, "none of them a number"),
        ({"nuisances": ("<eos>", ";")}, "a special token such as <eos>"),
        ({"nuisances": (1, 2)}, r"got \[1, 2\]"),
        ({"nuisances": (":",)}, "another symbol of the task"),
        ({"nuisances": ("",)}, "distinct words"),
        ({"strategy_weights": (1.0, 0.0, 1.0, 1.0)}, "strategy_weights: expected 4 positive"),
        ({"nuisance_weights": (1.0,)}, "nuisance_weights: expected 2"),
    ],
)
def test_what_every_task_refuses(made: type[StepTask], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^task {made.name}.*{says}"):
        made(**arguments)


@pytest.mark.parametrize(
    ("made", "arguments", "says"),
    [
        (Sorting, {"length": 2}, "sorting, length: expected a whole number from 3 to 99, got 2"),
        (Sorting, {"length": "5"}, "sorting, length: expected a whole number from 3 to 99, got 5"),
        (Addition, {"digits": 1}, "addition, digits: expected a whole number from 2 to 9, got 1"),
        (Addition, {"digits": 2.5}, "addition, digits: expected a whole number from 2 to 9, got 2.5"),
        (Equations, {"coefficient": 2}, "equations, coefficient: expected .* from 3"),
        (Equations, {"constant": 0}, "equations, constant"),
        (Equations, {"solution": 0}, "equations, solution"),
        (Grid, {"rows": 2}, "grid, rows"),
        (Grid, {"columns": 11}, "grid, columns: expected a whole number from 3 to 10, got 11"),
        (Grid, {"obstacles": 24}, "grid, obstacles: expected a whole number from 0 to 23"),
        (BaseConversion, {"bases": ()}, r"bases: expected distinct ones from 3 to 9, got \[\]"),
        (BaseConversion, {"bases": (4, 4)}, "bases: expected distinct"),
        (BaseConversion, {"bases": (2,)}, "bases: expected distinct"),
        (BaseConversion, {"largest": 63}, "largest: expected a whole number from 64 to 99999, got 63"),
        (BaseConversion, {"strategies": ("binary",)}, "binary converts to base 5; leave it out"),
        (Expressions, {"terms": 1}, "expressions, terms"),
        (Expressions, {"factor": 1}, "expressions, factor"),
        (Expressions, {"term": 0}, "expressions, term:"),
        (Expressions, {"addend": 0}, "expressions, addend"),
    ],
)
def test_sizes_out_of_range(made: type[StepTask], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**arguments)


def test_a_split_without_a_prompt_is_refused() -> None:
    task = BaseConversion(25, (5,))
    with pytest.raises(ValueError, match="task base_conversion: no train prompt in 100,000 draws; enlarge"):
        next(task.stream("train", 0))
    with pytest.raises(
        ValueError, match=r"'add 1 :' is not a prompt of this task; expected .* 'base 2 5 to 5 :'"
    ):
        task.admissible("add 1 :")


def test_a_grid_without_a_way_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"task grid: 20 obstacles in 5 rows of 5 leave no .* lower obstacles"
    ):
        Grid(obstacles=20).draw_prompt(random.Random(0))
