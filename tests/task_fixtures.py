"""The synthetic tasks in several sizes, and what is asked of every one."""

from __future__ import annotations

import inspect
import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from stratagem import tasks
from stratagem.tasks import (
    Addition,
    BaseConversion,
    Equations,
    Expressions,
    Grid,
    Mixture,
    Sorting,
    StepTask,
    Task,
)

FALSE_ALARM = 1e-5
"""Of a chi-square: a right sampler is accused once in 100,000 tests, seeds aside."""

UNEQUAL = (0.4, 0.3, 0.25, 0.05)

CLASSES = [
    found
    for found in (getattr(tasks, name) for name in tasks.__all__)
    if inspect.isclass(found) and issubclass(found, StepTask) and not inspect.isabstract(found)
]


def as_given() -> list[StepTask]:
    """Every task with its own defaults."""
    return [found() for found in CLASSES]


def resized() -> list[StepTask]:
    """Every task in another size, with rare strategies and a nuisance of the strategies' entropy."""
    law: dict[str, Any] = {
        "strategy_weights": UNEQUAL,
        "nuisances": (";", "|", "then", "&"),
        "nuisance_weights": UNEQUAL,
    }
    return [
        Sorting(4, **law),
        Addition(3, **law),
        Equations(5, 30, 12, **law),
        Grid(6, 7, 5, **law),
        BaseConversion(1500, (3, 4, 8), **law),
        Expressions(3, 5, 12, 30, **law),
    ]


TASKS: dict[str, Task] = {
    **{part.name: part for part in as_given()},
    **{f"{part.name}, resized": part for part in resized()},
    "all": Mixture(as_given()),
    "all, resized": Mixture(resized(), (3, 1, 1, 1, 1, 1)),
}

PARTS = {name: task for name, task in TASKS.items() if isinstance(task, StepTask)}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
every_part = pytest.mark.parametrize("task", PARTS.values(), ids=PARTS)
unhurried = settings(deadline=None, max_examples=40)
numbers = st.integers(0, 2**32)


def prompt_of(task: Task, number: int) -> str:
    return task.draw_prompt(random.Random(number))


def followed(task: Task, prompt: str, response: str) -> set[str]:
    """By brute force over everything the task can say."""
    return {
        s for s in task.admissible(prompt) for n in task.nuisances if task.trace(prompt, s, n) == response
    }


def entropy(law: Sequence[float]) -> float:
    return -sum(p * math.log(p) for p in law)


def assert_frequencies(drawn: Counter[Any], law: dict[Any, float]) -> None:
    assert drawn.keys() <= law.keys()
    if len(law) > 1:
        total = sum(drawn.values())
        found = chisquare([drawn[k] for k in law], [p * total / sum(law.values()) for p in law.values()])
        assert found.pvalue > FALSE_ALARM, (drawn, law)
