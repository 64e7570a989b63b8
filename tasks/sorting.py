"""Sorting a list of digits, the response being the intermediate lists of one of several algorithms."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from .steps import DIGITS, Steps, StepTask, check_range

Digits = tuple[int, ...]


def insertion(digits: Digits) -> Iterator[Digits]:
    """The list after each insertion into the sorted head."""
    for i in range(1, len(digits)):
        yield tuple(sorted(digits[: i + 1])) + digits[i + 1 :]


def selection(digits: Digits) -> Iterator[Digits]:
    """The list after each swap of the first smallest of the tail to its front."""
    work = list(digits)
    for i in range(len(work) - 1):
        smallest = min(range(i, len(work)), key=work.__getitem__)
        work[i], work[smallest] = work[smallest], work[i]
        yield tuple(work)


def bubble(digits: Digits) -> Iterator[Digits]:
    """The list after each pass of neighbour swaps."""
    work = list(digits)
    for end in range(len(work) - 1, 0, -1):
        for j in range(end):
            if work[j] > work[j + 1]:
                work[j], work[j + 1] = work[j + 1], work[j]
        yield tuple(work)


def merge(digits: Digits) -> Iterator[Digits]:
    """The list after each round of bottom-up merging (runs of 2, 4, 8, ...)."""
    work, width = digits, 2
    while width < 2 * len(work):
        work = tuple(d for i in range(0, len(work), width) for d in sorted(work[i : i + width]))
        yield work
        width *= 2


def cocktail(digits: Digits) -> Iterator[Digits]:
    """The list after each pass of neighbour swaps, passes running right and left in turn."""
    work = list(digits)
    low, high = 0, len(work) - 1
    while low < high:
        for j in range(low, high):
            if work[j] > work[j + 1]:
                work[j], work[j + 1] = work[j + 1], work[j]
        high -= 1
        yield tuple(work)
        if low < high:
            for j in range(high, low, -1):
                if work[j] < work[j - 1]:
                    work[j], work[j - 1] = work[j - 1], work[j]
            low += 1
            yield tuple(work)


ALGORITHMS: dict[str, Callable[[Digits], Iterator[Digits]]] = {
    f.__name__: f for f in (insertion, selection, bubble, merge, cocktail)
}


def _lists(algorithm: Callable[[Digits], Iterator[Digits]], digits: Digits) -> Steps:
    return [" ".join(map(str, step)) for step in algorithm(digits)]


class Sorting(StepTask):
    """``sort 3 1 4 1 5 :`` answered by the lists of one algorithm, the last of them sorted.

    The nuisance is the mark between the lists, one for the whole response.

    Args:
        length: digits in a list, 3 to 99.
        strategies: names in :data:`ALGORITHMS`.
        strategy_weights: ``p(s)``, uniform where not given.
        nuisances: marks between lists.
        nuisance_weights: ``p(n)``, uniform where not given; its entropy is the nuisance's.
    """

    name: ClassVar[str] = "sorting"
    head: ClassVar[str] = "sort"
    form: ClassVar[str] = r"sort (\d+) :"
    known: ClassVar = {name: partial(_lists, run) for name, run in ALGORITHMS.items()}

    def __init__(
        self,
        length: int = 5,
        strategies: Sequence[str] = ("insertion", "selection", "bubble", "merge"),
        strategy_weights: Sequence[float] | None = None,
        nuisances: Sequence[str] = (";", "|"),
        nuisance_weights: Sequence[float] | None = None,
    ) -> None:
        check_range("task sorting, length", 3, 99, length)
        self.length = length
        super().__init__(strategies, strategy_weights, nuisances, nuisance_weights)

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("sort", ":", *DIGITS)

    def draw_prompt(self, rng: random.Random) -> str:
        return f"sort {' '.join(str(rng.randrange(10)) for _ in range(self.length))} :"

    def problem(self, prompt: str) -> tuple[Digits]:
        digits = tuple(map(int, self.match(prompt)[0]))
        if len(digits) != self.length:
            raise self.foreign(prompt)
        return (digits,)

    def is_correct(self, prompt: str, response: str) -> bool:
        symbols = response.split()
        return symbols[-self.length :] == [str(d) for d in sorted(self.problem(prompt)[0])] and (
            len(symbols) == self.length or not symbols[-self.length - 1].isdigit()
        )
