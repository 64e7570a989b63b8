"""The contract of a synthetic task: prompts whose good answers are reached by several known strategies."""

from __future__ import annotations

import math
import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Split = Literal["train", "test"]

_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Trace:
    """One response of the mixture, with the hidden choices that made it."""

    prompt: str
    response: str
    strategy: str
    nuisance: str


class Task(ABC):
    """A mixture of strategies with exact parsers, so that recovered latents can be held against the truth.

    The law of a response is ``p(y|x) = sum_s p(s|x) sum_n p(n) [y = trace(x, s, n)]`` with strategy ``s`` and
    a nuisance ``n`` (a surface choice that says nothing about the strategy). Prompts and responses are
    symbols of :attr:`vocabulary` joined by single spaces.
    """

    name: ClassVar[str]
    strategies: tuple[str, ...]
    nuisances: tuple[str, ...]
    strategy_weights: tuple[float, ...]
    nuisance_weights: tuple[float, ...]

    @property
    def parts(self) -> Mapping[str, Task]:
        """By name, the tasks that this one is made of; itself alone, unless it is a mixture of several."""
        return {self.name: self}

    @property
    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """Every symbol that a prompt or a response can contain."""

    @abstractmethod
    def draw_prompt(self, rng: random.Random) -> str:
        """One prompt from the law of prompts, whatever its split."""

    @abstractmethod
    def trace(self, prompt: str, strategy: str, nuisance: str) -> str:
        """The response that ``strategy`` gives on ``prompt``, written with ``nuisance``."""

    @abstractmethod
    def strategies_of(self, prompt: str, response: str) -> frozenset[str]:
        """The strategies that the response follows; empty if none."""

    @abstractmethod
    def nuisance_of(self, response: str) -> str | None:
        """The surface choice that the response shows; None if it shows none."""

    @abstractmethod
    def is_correct(self, prompt: str, response: str) -> bool:
        """Whether the response ends in the right answer, by whatever strategy."""

    def admissible(self, prompt: str) -> Mapping[str, float]:  # noqa: ARG002
        """``p(s|x)`` of the strategies that the prompt admits; a prompt that admits none is not asked."""
        return dict(zip(self.strategies, self.strategy_weights, strict=True))

    def prompts(self, num: int, split: Split, seed: int, or_fewer: bool = False) -> list[str]:
        """``num`` distinct prompts; a prompt belongs to one split by its checksum, whatever the seed.

        Raises:
            ValueError: the split has fewer than ``num`` distinct prompts within reach of random draws, and
                ``or_fewer`` is not set.
        """
        rng = random.Random(f"{self.name}/{split}/{seed}")
        found: dict[str, None] = {}
        idle = 0
        while len(found) < num and idle < 1000 + 20 * len(found):
            prompt = self.draw_prompt(rng)
            new = split_of(prompt) == split and prompt not in found and bool(self.admissible(prompt))
            idle = 0 if new else idle + 1
            if new:
                found[prompt] = None
        if len(found) == num or (or_fewer and found):
            return list(found)
        raise ValueError(
            f"task {self.name}: asked for {num} distinct {split} prompts, found {len(found)}; "
            "ask for fewer or enlarge the task"
        )

    def sample(self, prompt: str, rng: random.Random) -> Trace:
        """One response from the mixture, with its strategy and nuisance."""
        available = self.admissible(prompt)
        strategy = rng.choices(list(available), list(available.values()))[0]
        nuisance = rng.choices(self.nuisances, self.nuisance_weights)[0]
        return Trace(prompt, self.trace(prompt, strategy, nuisance), strategy, nuisance)

    def law(self, prompt: str) -> dict[str, float]:
        """``p(y|x)`` over the finitely many responses of the mixture."""
        law: dict[str, float] = {}
        for strategy, p_strategy in self.admissible(prompt).items():
            for nuisance, p_nuisance in zip(self.nuisances, self.nuisance_weights, strict=True):
                response = self.trace(prompt, strategy, nuisance)
                law[response] = law.get(response, 0.0) + p_strategy * p_nuisance
        return law

    def entropy(self, prompt: str) -> float:
        """Entropy of ``p(y|x)`` in nats per sequence: the floor of any model's loss."""
        return -sum(p * math.log(p) for p in self.law(prompt).values() if p > 0)

    def stream(self, split: Split, seed: int) -> Iterator[Trace]:
        """Endless pairs from the mixture, prompts with repetition.

        Raises:
            ValueError: the split has no prompt within reach of random draws.
        """
        rng = random.Random(f"{self.name}/{split}/{seed}/stream")
        idle = 0
        while idle < 100_000:
            prompt = self.draw_prompt(rng)
            idle += 1
            if split_of(prompt) == split and self.admissible(prompt):
                idle = 0
                yield self.sample(prompt, rng)
        raise ValueError(f"task {self.name}: no {split} prompt in {idle:,} draws; enlarge the task")


def split_of(text: str, test_share: float = _TEST_SHARE) -> Split:
    """The split of a text: that share of all texts is held out, by checksum, whatever the seed and the other texts."""
    return "test" if place_of(text) < test_share else "train"


def place_of(text: str) -> float:
    """A number in ``[0, 1)`` that is the text's own, uniform over texts: its checksum."""
    rest, thousandths = divmod(zlib.crc32(text.encode()), 1000)
    return (thousandths + rest * 1000 / 2**32) / 1000


def check_weights(what: str, names: tuple[str, ...], weights: Sequence[float] | None) -> tuple[float, ...]:
    """Weights normalised to a law over ``names``; uniform where none are given."""
    if weights is None:
        return (1.0 / len(names),) * len(names)
    if len(weights) != len(names) or any(not w > 0 or math.isinf(w) for w in weights):
        raise ValueError(
            f"{what}: expected {len(names)} positive finite weights for {', '.join(names)}, got {list(weights)}"
        )
    return tuple(w / sum(weights) for w in weights)
