"""Several tasks as one, so that one base can be trained on all of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar

from .steps import StepTask
from .task import Task, Trace, check_weights


class Mixture(Task):
    """The prompts of several tasks, whose first word says which; a strategy is named ``task/strategy``.

    A prompt is of the same split here as in its own task, so that a base trained on the mixture has seen no held-out
    prompt of any.

    Args:
        tasks: with the same marks, by name or as a list.
        weights: share of the prompts of each, uniform where not given.
    """

    name: ClassVar[str] = "all"

    def __init__(
        self, tasks: Sequence[StepTask] | Mapping[str, StepTask], weights: Sequence[float] | None = None
    ) -> None:
        parts = list(tasks.values() if isinstance(tasks, Mapping) else tasks)
        self.tasks: dict[str, StepTask] = {part.head: part for part in parts}
        if not parts or len(self.tasks) != len(parts):
            raise ValueError(
                f"task all: expected tasks whose prompts begin with different words, got {[p.name for p in parts]}"
            )
        if len({part.nuisances for part in parts}) > 1:
            marks = ", ".join(f"{part.name} {' '.join(part.nuisances)}" for part in parts)
            raise ValueError(f"task all: expected the same nuisances in each task, got {marks}")
        self.weights = check_weights("task all, weights", tuple(p.name for p in parts), weights)
        self.strategies = tuple(f"{part.name}/{s}" for part in parts for s in part.strategies)
        self.strategy_weights = tuple(
            w * v for part, w in zip(parts, self.weights, strict=True) for v in part.strategy_weights
        )
        self.nuisances = parts[0].nuisances
        laws = zip(*(part.nuisance_weights for part in parts), strict=True)
        self.nuisance_weights = tuple(
            sum(w * v for w, v in zip(self.weights, law, strict=True)) for law in laws
        )

    @property
    def parts(self) -> Mapping[str, Task]:
        return {part.name: part for part in self.tasks.values()}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(symbol for part in self.tasks.values() for symbol in part.vocabulary))

    def task_of(self, prompt: str) -> StepTask:
        """The task that a prompt is of.

        Raises:
            ValueError: none of them.
        """
        head = prompt.split(maxsplit=1)[:1]
        if not head or head[0] not in self.tasks:
            raise ValueError(
                f"task all: {prompt!r} is no prompt of a task here; expected one that begins with "
                f"{', '.join(self.tasks)}"
            )
        return self.tasks[head[0]]

    def draw_prompt(self, rng: random.Random) -> str:
        return rng.choices(list(self.tasks.values()), self.weights)[0].draw_prompt(rng)

    def admissible(self, prompt: str) -> Mapping[str, float]:
        task = self.task_of(prompt)
        return {f"{task.name}/{s}": p for s, p in task.admissible(prompt).items()}

    def trace(self, prompt: str, strategy: str, nuisance: str) -> str:
        task = self.task_of(prompt)
        return task.trace(prompt, strategy.removeprefix(f"{task.name}/"), nuisance)

    def strategies_of(self, prompt: str, response: str) -> frozenset[str]:
        task = self.task_of(prompt)
        return frozenset(f"{task.name}/{s}" for s in task.strategies_of(prompt, response))

    def nuisance_of(self, response: str) -> str | None:
        seen = {task.nuisance_of(response) for task in self.tasks.values()} - {None}
        return seen.pop() if len(seen) == 1 else None

    def is_correct(self, prompt: str, response: str) -> bool:
        return self.task_of(prompt).is_correct(prompt, response)

    def sample(self, prompt: str, rng: random.Random) -> Trace:
        task = self.task_of(prompt)
        drawn = task.sample(prompt, rng)
        return Trace(prompt, drawn.response, f"{task.name}/{drawn.strategy}", drawn.nuisance)

    def law(self, prompt: str) -> dict[str, float]:
        return self.task_of(prompt).law(prompt)
