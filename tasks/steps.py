"""What the synthetic tasks share: responses that are the steps of a strategy, prompts and steps as symbols."""

from __future__ import annotations

import random
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from .task import Task, check_weights

Steps = list[str]

DIGITS = tuple("0123456789")


class StepTask(Task):
    """The steps that a strategy takes, with a mark between them; the mark, one in a response, is the nuisance.

    A strategy that returns None on a prompt is not admissible there; the others share its probability in
    proportion to theirs.

    Attributes:
        head: the word that the prompts begin with.
        form: regular expression of a prompt, the blanks between digits left out.
        known: what each strategy does with what :meth:`problem` reads from a prompt.

    Args:
        strategies: names in :attr:`known`, all of them where not given.
        strategy_weights: ``p(s)``, uniform where not given.
        nuisances: marks between steps.
        nuisance_weights: ``p(n)``, uniform where not given; its entropy is the nuisance's.
    """

    head: ClassVar[str]
    form: ClassVar[str]
    known: ClassVar[Mapping[str, Callable[..., Steps | None]]]

    def __init__(
        self,
        strategies: Sequence[str] | None,
        strategy_weights: Sequence[float] | None,
        nuisances: Sequence[str],
        nuisance_weights: Sequence[float] | None,
    ) -> None:
        where = f"task {self.name}"
        self.strategies = tuple(self.known if strategies is None else strategies)
        self.nuisances = tuple(nuisances)
        unknown = set(self.strategies) - set(self.known)
        if unknown or not self.strategies or len(set(self.strategies)) != len(self.strategies):
            raise ValueError(
                f"{where}: strategies must be distinct names among {', '.join(self.known)}; "
                f"got {list(self.strategies)}"
            )
        wrong = [n for n in self.nuisances if not self._may_be_mark(n)]
        if wrong or not self.nuisances or len(set(self.nuisances)) != len(self.nuisances):
            raise ValueError(
                f"{where}: nuisances must be distinct words, none of them a number, a special token such as <eos> or "
                "another symbol of the task "
                f"({' '.join(s for s in self.symbols if not s.isdigit())}); got {list(self.nuisances)}"
            )
        self.strategy_weights = check_weights(f"{where}, strategy_weights", self.strategies, strategy_weights)
        self.nuisance_weights = check_weights(f"{where}, nuisance_weights", self.nuisances, nuisance_weights)

    def _may_be_mark(self, symbol: Any) -> bool:
        """A word that is no number, no symbol of the task, and no special token as ``<eos>`` is."""
        is_word = isinstance(symbol, str) and symbol.split() == [symbol]
        return is_word and symbol not in self.symbols and not re.fullmatch(r"\d+|<.*>", symbol)

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """The vocabulary without the marks."""

    @abstractmethod
    def problem(self, prompt: str) -> tuple[Any, ...]:
        """What the prompt asks, as arguments of the strategies."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*self.symbols, *self.nuisances)

    def admissible(self, prompt: str) -> Mapping[str, float]:
        problem = self.problem(prompt)
        weights = zip(self.strategies, self.strategy_weights, strict=True)
        open_to = {s: w for s, w in weights if self.known[s](*problem) is not None}
        return {s: w / sum(open_to.values()) for s, w in open_to.items()}

    def trace(self, prompt: str, strategy: str, nuisance: str) -> str:
        problem = self.problem(prompt)
        steps = self.known[strategy](*problem) if strategy in self.strategies else None
        if steps is None:
            raise ValueError(
                f"task {self.name}: strategy {strategy} is not admissible on the prompt {prompt!r}; "
                f"expected one of {', '.join(self.admissible(prompt))}, as admissible(prompt) has them"
            )
        return f" {nuisance} ".join(map(spaced, steps))

    def strategies_of(self, prompt: str, response: str) -> frozenset[str]:
        nuisance = self.nuisance_of(response)
        if nuisance is None:
            return frozenset()
        return frozenset(s for s in self.admissible(prompt) if self.trace(prompt, s, nuisance) == response)

    def nuisance_of(self, response: str) -> str | None:
        seen = set(response.split()) - (set(self.symbols) - {self.head, ":"})
        return seen.pop() if len(seen) == 1 and seen <= set(self.nuisances) else None

    def ends_in(self, response: str, answer: str) -> bool:
        """Whether the last step of the response is the answer."""
        last: list[str] = []
        for symbol in response.split():
            last = [] if symbol in self.nuisances else [*last, symbol]
        return " ".join(last) == spaced(answer)

    def match(self, prompt: str) -> tuple[str, ...]:
        """The groups of :attr:`form`; numbers in one piece.

        Raises:
            ValueError: not a prompt of the task.
        """
        found = re.fullmatch(self.form, re.sub(r"(?<=\d) (?=\d)", "", prompt))
        if found is None or spaced(prompt) != prompt:
            raise self.foreign(prompt)
        return found.groups()

    def foreign(self, prompt: str) -> ValueError:
        """The refusal of a prompt that is not the task's."""
        return ValueError(
            f"task {self.name}: {prompt!r} is not a prompt of this task; expected one like "
            f"{self.draw_prompt(random.Random(0))!r}"
        )


def spaced(text: str) -> str:
    """The text with its numbers spelled, ``12 + 7`` as ``1 2 + 7``."""
    return re.sub(r"(?<=\d)(?=\d)", " ", text)


def check_range(where: str, low: int, high: int, value: int) -> None:
    """Refuse a size that is no whole number, or out of range."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{where}: expected a whole number from {low} to {high}, got {value}")
