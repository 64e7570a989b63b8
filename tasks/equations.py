"""Linear equations with the unknown on both sides, the response being one order of isolating it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from .steps import DIGITS, Steps, StepTask, check_range, spaced


def terms(a: int, b: int, c: int, d: int) -> Steps:
    """Terms in x to one side, then the constants to the other, then division."""
    k, rest = abs(a - c), abs(d - b)
    return [_gathered(a, b, c, d), _equal(a > c, f"{k} x", f"{rest}"), f"x = {rest // k}"]


def divide(a: int, b: int, c: int, d: int) -> Steps | None:
    """Terms in x to one side, then division, where it leaves whole numbers, then the constants to the other side."""
    k, x = abs(a - c), abs(d - b) // abs(a - c)
    small = min(b, d) // k
    if k == 1 or min(b, d) % k:
        return None
    return [_gathered(a, b, c, d), _equal(a > c, f"x + {small}", f"{x + small}"), f"x = {x}"]


def constants(a: int, b: int, c: int, d: int) -> Steps:
    """Constants to one side, then the terms in x to the other, then division."""
    k, rest = abs(a - c), abs(d - b)
    kept = _equal(a > c, f"{max(a, c)} x", f"{min(a, c)} x + {rest}")
    return [kept, _equal(a > c, f"{k} x", f"{rest}"), f"x = {rest // k}"]


def formula(a: int, b: int, c: int, d: int) -> Steps:
    """The quotient of the differences, reckoned at the end."""
    (p, q), (r, s) = ((d, b), (a, c)) if a > c else ((b, d), (c, a))
    return [f"x = ( {p} - {q} ) / ( {r} - {s} )", f"x = {p - q} / {r - s}", f"x = {(p - q) // (r - s)}"]


def _gathered(a: int, b: int, c: int, d: int) -> str:
    return _equal(a > c, f"{abs(a - c)} x + {min(b, d)}", f"{max(b, d)}")


def _equal(in_order: bool, one: str, other: str) -> str:
    return f"{one} = {other}" if in_order else f"{other} = {one}"


class Equations(StepTask):
    """``solve 5 x + 6 = 2 x + 1 8 :`` answered by the equations of one order of solving, the last ``x = 4``.

    Of ``terms`` and ``divide`` the first step is the same: they diverge late. ``divide`` is admissible where the
    smaller constant is a multiple of the difference of the coefficients, which is above 1; half of the prompts are
    drawn for it. No number is negative, and no two strategies ever give the same response.

    Args:
        coefficient: the largest factor of x, at least 3.
        constant: the largest that the smaller constant may be, at least 2.
        solution: the largest x.
        strategies, strategy_weights, nuisances, nuisance_weights: as in :class:`StepTask`.
    """

    name: ClassVar[str] = "equations"
    head: ClassVar[str] = "solve"
    form: ClassVar[str] = r"solve (\d+) x \+ (\d+) = (\d+) x \+ (\d+) :"
    known: ClassVar = {f.__name__: f for f in (terms, divide, constants, formula)}

    def __init__(
        self,
        coefficient: int = 9,
        constant: int = 20,
        solution: int = 9,
        strategies: Sequence[str] | None = None,
        strategy_weights: Sequence[float] | None = None,
        nuisances: Sequence[str] = (";", "|"),
        nuisance_weights: Sequence[float] | None = None,
    ) -> None:
        check_range("task equations, coefficient", 3, 99, coefficient)
        check_range("task equations, constant", 2, 999, constant)
        check_range("task equations, solution", 1, 99, solution)
        self.coefficient, self.constant, self.solution = coefficient, constant, solution
        super().__init__(strategies, strategy_weights, nuisances, nuisance_weights)

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("solve", ":", *DIGITS, *"x+=-/()")

    def draw_prompt(self, rng: random.Random) -> str:
        a, c = rng.sample(range(1, self.coefficient + 1), 2)
        k, small = abs(a - c), rng.randint(1, self.constant)
        if k <= self.constant and rng.random() < 0.5:
            small = k * rng.randint(1, self.constant // k)
        large = small + k * rng.randint(1, self.solution)
        b, d = (small, large) if a > c else (large, small)
        return spaced(f"solve {a} x + {b} = {c} x + {d} :")

    def problem(self, prompt: str) -> tuple[int, int, int, int]:
        a, b, c, d = map(int, self.match(prompt))
        if min(a, b, c, d) < 1 or (a - c) * (d - b) < 1 or (d - b) % (a - c):
            raise self.foreign(prompt)
        return a, b, c, d

    def is_correct(self, prompt: str, response: str) -> bool:
        a, b, c, d = self.problem(prompt)
        return self.ends_in(response, f"x = {(d - b) // (a - c)}")
