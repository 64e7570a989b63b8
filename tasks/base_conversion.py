"""Conversion of a decimal number to another base, the response being the steps of one method."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from .steps import DIGITS, Steps, StepTask, check_range, spaced


def division(number: int, base: int) -> Steps:
    """Quotient and remainder (``r``) of division by the base, then of the quotient, until it is below the base."""
    steps, quotient = [], number
    while quotient >= base:
        quotient, remainder = divmod(quotient, base)
        steps.append(f"{quotient} r {remainder}")
    return [*steps, in_base(number, base)]


def powers(number: int, base: int) -> Steps:
    """How often the largest power of the base goes into the number, and what is left over for the next power."""
    steps, rest = [], number
    for exponent in range(len(in_base(number, base)) - 1, 0, -1):
        times, rest = divmod(rest, base**exponent)
        steps.append(f"{times} r {rest}")
    return [*steps, in_base(number, base)]


def places(number: int, base: int) -> Steps:
    """The hundreds converted, then with the tens, then with the ones."""
    units = [10**i for i in range(len(str(number)))]
    return [in_base(number // unit * unit, base) for unit in reversed(units)]


def binary(number: int, base: int) -> Steps | None:
    """Through base 2, whose digits are grouped; only to bases that are powers of 2."""
    return None if base not in (4, 8) else [in_base(number, 2), in_base(number, base)]


def in_base(number: int, base: int) -> str:
    """The number's digits in the base."""
    text = ""
    while number >= base:
        number, digit = divmod(number, base)
        text = f"{digit}{text}"
    return f"{number}{text}"


class BaseConversion(StepTask):
    """``base 1 3 7 to 4 :`` answered by the steps of one method, the last of them ``2 0 2 1``.

    Through binary is admissible for the bases 4 and 8 alone; half of the prompts are drawn for it. The numbers have
    three digits at least in every base, so that no two methods ever give the same response.

    Args:
        largest: number to convert; the smallest is the square of the largest base.
        bases: to convert to, distinct, each from 3 to 9.
        strategies, strategy_weights, nuisances, nuisance_weights: as in :class:`StepTask`.
    """

    name: ClassVar[str] = "base_conversion"
    head: ClassVar[str] = "base"
    form: ClassVar[str] = r"base (\d+) to (\d) :"
    known: ClassVar = {f.__name__: f for f in (division, powers, places, binary)}

    def __init__(
        self,
        largest: int = 999,
        bases: Sequence[int] = (4, 5, 8),
        strategies: Sequence[str] | None = None,
        strategy_weights: Sequence[float] | None = None,
        nuisances: Sequence[str] = (";", "|"),
        nuisance_weights: Sequence[float] | None = None,
    ) -> None:
        if not bases or len(set(bases)) != len(bases) or not set(bases) <= set(range(3, 10)):
            raise ValueError(
                f"task base_conversion, bases: expected distinct ones from 3 to 9, got {list(bases)}"
            )
        self.smallest, self.largest, self.bases = max(10, max(bases) ** 2), largest, tuple(bases)
        check_range("task base_conversion, largest", self.smallest, 99_999, largest)
        super().__init__(strategies, strategy_weights, nuisances, nuisance_weights)
        for base in self.bases:
            if not self.admissible(f"base {spaced(str(largest))} to {base} :"):
                raise ValueError(
                    f"task base_conversion: none of the strategies {', '.join(self.strategies)} converts to "
                    f"base {base}; leave it out of bases, or add another strategy than binary"
                )

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("base", "to", ":", *DIGITS, "r")

    def draw_prompt(self, rng: random.Random) -> str:
        through = [base for base in self.bases if base in (4, 8)]
        direct = [base for base in self.bases if base not in (4, 8)]
        base = rng.choice(through if not direct or (through and rng.random() < 0.5) else direct)
        return spaced(f"base {rng.randint(self.smallest, self.largest)} to {base} :")

    def problem(self, prompt: str) -> tuple[int, int]:
        number, base = map(int, self.match(prompt))
        if base not in self.bases or not self.smallest <= number <= self.largest:
            raise self.foreign(prompt)
        return number, base

    def is_correct(self, prompt: str, response: str) -> bool:
        return self.ends_in(response, in_base(*self.problem(prompt)))
