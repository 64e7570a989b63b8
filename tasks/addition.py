"""Addition of two numbers, the response being the intermediate results of one of several ways."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from .steps import DIGITS, Steps, StepTask, check_range, spaced


def carry(a: int, b: int) -> Steps:
    """The sum of each column from the right, with the carry from the one before; then the whole."""
    steps, carried, rest = [], 0, (a, b)
    while any(rest):
        column = rest[0] % 10 + rest[1] % 10 + carried
        steps.append(str(column))
        carried, rest = column // 10, (rest[0] // 10, rest[1] // 10)
    return [*steps, str(a + b)]


def left(a: int, b: int) -> Steps:
    """The sum of the leading digits, corrected with each further column to the right."""
    places = [10**i for i in range(len(str(max(a, b))))]
    return [str(a // place + b // place) for place in reversed(places)]


def partial(a: int, b: int) -> Steps:
    """The sum of each place by itself (hundreds, tens, ones); then the whole."""
    places = [10**i for i in range(len(str(max(a, b))))]
    return [str((a // p % 10 + b // p % 10) * p) for p in reversed(places)] + [str(a + b)]


def complement(a: int, b: int) -> Steps:
    """What the second number lacks to a power of ten; the first with that power added; what was lacking off again."""
    power = 10 ** len(str(b))
    return [str(power - b), str(a + power), str(a + b)]


class Addition(StepTask):
    """``add 4 7 + 8 6 :`` answered by the intermediate results of one way, the last of them the sum.

    Every way is open to every prompt, and no two ever give the same response.

    Args:
        digits: of each number, at least 2.
        strategies, strategy_weights, nuisances, nuisance_weights: as in :class:`StepTask`.
    """

    name: ClassVar[str] = "addition"
    head: ClassVar[str] = "add"
    form: ClassVar[str] = r"add (\d+) \+ (\d+) :"
    known: ClassVar = {f.__name__: f for f in (carry, left, partial, complement)}

    def __init__(
        self,
        digits: int = 2,
        strategies: Sequence[str] | None = None,
        strategy_weights: Sequence[float] | None = None,
        nuisances: Sequence[str] = (";", "|"),
        nuisance_weights: Sequence[float] | None = None,
    ) -> None:
        check_range("task addition, digits", 2, 9, digits)
        self.digits = digits
        super().__init__(strategies, strategy_weights, nuisances, nuisance_weights)

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("add", ":", *DIGITS, "+")

    def draw_prompt(self, rng: random.Random) -> str:
        a, b = (rng.randrange(10 ** (self.digits - 1), 10**self.digits) for _ in range(2))
        return spaced(f"add {a} + {b} :")

    def problem(self, prompt: str) -> tuple[int, int]:
        a, b = map(int, self.match(prompt))
        if len(str(a)) != self.digits or len(str(b)) != self.digits:
            raise self.foreign(prompt)
        return a, b

    def is_correct(self, prompt: str, response: str) -> bool:
        return self.ends_in(response, str(sum(self.problem(prompt))))
