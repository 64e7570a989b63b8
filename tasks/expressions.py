"""Arithmetic expressions with a bracket, the response being one order of evaluating them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import ClassVar

from .steps import DIGITS, Steps, StepTask, check_range, spaced

Numbers = tuple[int, ...]


def bracket(factor: int, terms: Numbers, addend: int) -> Steps:
    """The bracket first, then the product, then the sum."""
    inside = sum(terms)
    return [f"{factor} * {inside} + {addend}", f"{factor * inside} + {addend}", f"{factor * inside + addend}"]


def from_left(factor: int, terms: Numbers, addend: int) -> Steps:
    """The bracket multiplied out, then the first two summands added, and so on."""
    return _added(factor, terms, addend, lambda summands: [sum(summands[:2]), *summands[2:]])


def from_right(factor: int, terms: Numbers, addend: int) -> Steps:
    """The bracket multiplied out, then the last two summands added, and so on."""
    return _added(factor, terms, addend, lambda summands: [*summands[:-2], sum(summands[-2:])])


def factoring(factor: int, terms: Numbers, addend: int) -> Steps | None:
    """The addend drawn into the bracket, where it is a multiple of the factor; then the bracket, then the product."""
    if addend % factor:
        return None
    inside = (*terms, addend // factor)
    return [f"{factor} * ( {_sum(inside)} )", f"{factor} * {sum(inside)}", f"{factor * sum(inside)}"]


def _added(factor: int, terms: Numbers, addend: int, merge: Callable[[list[int]], list[int]]) -> Steps:
    summands = [*(factor * t for t in terms), addend]
    steps = [_sum(summands)]
    while len(summands) > 1:
        summands = merge(summands)
        steps.append(_sum(summands))
    return steps


def _sum(summands: Sequence[int]) -> str:
    return " + ".join(map(str, summands))


class Expressions(StepTask):
    """``eval 4 * ( 3 + 5 ) + 7 :`` answered by the expressions of one order of evaluation, the last the value.

    Of ``from_left`` and ``from_right`` the first step is the same: they diverge late. ``factoring`` is admissible
    where the addend is a multiple of the factor; half of the prompts are drawn for it. No two orders ever give the
    same response.

    Args:
        terms: numbers in the bracket, at least 2.
        factor: the largest before the bracket; the smallest is 2.
        term: the largest number in the bracket.
        addend: the largest number behind the bracket.
        strategies, strategy_weights, nuisances, nuisance_weights: as in :class:`StepTask`.
    """

    name: ClassVar[str] = "expressions"
    head: ClassVar[str] = "eval"
    form: ClassVar[str] = r"eval (\d+) \* \( (\d+(?: \+ \d+)+) \) \+ (\d+) :"
    known: ClassVar = {f.__name__: f for f in (bracket, from_left, from_right, factoring)}

    def __init__(
        self,
        terms: int = 2,
        factor: int = 9,
        term: int = 9,
        addend: int = 20,
        strategies: Sequence[str] | None = None,
        strategy_weights: Sequence[float] | None = None,
        nuisances: Sequence[str] = (";", "|"),
        nuisance_weights: Sequence[float] | None = None,
    ) -> None:
        check_range("task expressions, terms", 2, 9, terms)
        check_range("task expressions, factor", 2, 99, factor)
        check_range("task expressions, term", 1, 999, term)
        check_range("task expressions, addend", 1, 999, addend)
        self.terms, self.factor, self.term, self.addend = terms, factor, term, addend
        super().__init__(strategies, strategy_weights, nuisances, nuisance_weights)

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("eval", ":", *DIGITS, *"+*()")

    def draw_prompt(self, rng: random.Random) -> str:
        factor, addend = rng.randint(2, self.factor), rng.randint(1, self.addend)
        if factor <= self.addend and rng.random() < 0.5:
            addend = factor * rng.randint(1, self.addend // factor)
        terms = [rng.randint(1, self.term) for _ in range(self.terms)]
        return spaced(f"eval {factor} * ( {_sum(terms)} ) + {addend} :")

    def problem(self, prompt: str) -> tuple[int, Numbers, int]:
        factor, inside, addend = self.match(prompt)
        terms = tuple(map(int, inside.split(" + ")))
        if len(terms) != self.terms or int(factor) < 2 or min(*terms, int(addend)) < 1:
            raise self.foreign(prompt)
        return int(factor), terms, int(addend)

    def is_correct(self, prompt: str, response: str) -> bool:
        factor, terms, addend = self.problem(prompt)
        return self.ends_in(response, str(factor * sum(terms) + addend))
