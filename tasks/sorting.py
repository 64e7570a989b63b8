"""Sorting a list of digits, the response being the intermediate lists of one of several algorithms."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from .task import Task, check_weights

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


class Sorting(Task):
    """``sort 3 1 4 1 5 :`` answered by the lists of one algorithm, the last of them sorted.

    The nuisance is the mark between the lists, one for the whole response.

    Args:
        length: digits in a list, at least 3.
        strategies: names in :data:`ALGORITHMS`.
        strategy_weights: ``p(s)``, uniform where not given.
        nuisances: marks between lists.
        nuisance_weights: ``p(n)``, uniform where not given; its entropy is the nuisance's.
    """

    name: ClassVar[str] = "sorting"

    def __init__(
        self,
        length: int = 5,
        strategies: Sequence[str] = ("insertion", "selection", "bubble", "merge"),
        strategy_weights: Sequence[float] | None = None,
        nuisances: Sequence[str] = (";", "|"),
        nuisance_weights: Sequence[float] | None = None,
    ) -> None:
        if length < 3:
            raise ValueError(f"task sorting: length must be at least 3, got {length}")
        unknown = [s for s in strategies if s not in ALGORITHMS]
        if unknown or len(set(strategies)) != len(strategies) or not strategies:
            raise ValueError(
                f"task sorting: strategies must be distinct names among {', '.join(ALGORITHMS)}; got {list(strategies)}"
            )
        taken = {"sort", ":"}
        wrong = [n for n in nuisances if n in taken or n.isdigit() or n.split() != [n]]
        if not nuisances or len(set(nuisances)) != len(nuisances) or wrong:
            raise ValueError(
                f"task sorting: nuisances must be distinct symbols, none of them a digit; got {list(nuisances)}"
            )
        self.length = length
        self.strategies, self.nuisances = tuple(strategies), tuple(nuisances)
        self.strategy_weights = check_weights(
            "task sorting, strategy_weights", self.strategies, strategy_weights
        )
        self.nuisance_weights = check_weights(
            "task sorting, nuisance_weights", self.nuisances, nuisance_weights
        )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return ("sort", ":", *map(str, range(10)), *self.nuisances)

    def draw_prompt(self, rng: random.Random) -> str:
        return f"sort {' '.join(str(rng.randrange(10)) for _ in range(self.length))} :"

    def trace(self, prompt: str, strategy: str, nuisance: str) -> str:
        lists = ALGORITHMS[strategy](_digits_of(prompt))
        return f" {nuisance} ".join(" ".join(map(str, step)) for step in lists)

    def strategies_of(self, prompt: str, response: str) -> frozenset[str]:
        nuisance = self.nuisance_of(response)
        if nuisance is None:
            return frozenset()
        return frozenset(s for s in self.admissible(prompt) if self.trace(prompt, s, nuisance) == response)

    def nuisance_of(self, response: str) -> str | None:
        seen = {symbol for symbol in response.split() if not symbol.isdigit()}
        return seen.pop() if len(seen) == 1 and seen <= set(self.nuisances) else None

    def is_correct(self, prompt: str, response: str) -> bool:
        symbols = response.split()
        return symbols[-self.length :] == [str(d) for d in sorted(_digits_of(prompt))] and (
            len(symbols) == self.length or not symbols[-self.length - 1].isdigit()
        )


def _digits_of(prompt: str) -> Digits:
    return tuple(int(symbol) for symbol in prompt.split()[1:-1])
