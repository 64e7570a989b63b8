"""A word for a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..diagnostic import Diagnosis
from ..findings.evidence import Estimate, estimate
from ..findings.verdict import verdict

TONES = ("good", "fair", "poor")


class Word(NamedTuple):
    """What a figure comes to.

    Attributes:
        text: the word.
        tone: one of :data:`TONES`; empty where it is neither good nor bad.
    """

    text: str
    tone: str = ""


Judge = Callable[[Estimate, Diagnosis], Word | None]
"""The word of a figure of a diagnosis; None where it cannot be told."""


def below(good: float, fair: float, *words: str) -> Judge:
    """The third word where the figure is above ``fair`` for sure, the second where above ``good``, else the first.

    As findings are: what is within its error of a bound is given the better word.
    """
    return lambda found, _: _word(found.above(good) + found.above(fair), words)


def above(good: float, fair: float, *words: str) -> Judge:
    """The third word where the figure is below ``fair`` for sure, the second where below ``good``, else the first."""
    return lambda found, _: _word(found.below(good) + found.below(fair), words)


def of(name: str, judge: Judge) -> Judge:
    """The word of another figure."""
    return lambda _, diagnosis: (
        None if (other := estimate(diagnosis, name)) is None else judge(other, diagnosis)
    )


def less(name: str, judge: Judge) -> Judge:
    """The word of the difference from another figure."""

    def judged(found: Estimate, diagnosis: Diagnosis) -> Word | None:
        other = estimate(diagnosis, name)
        if other is None:
            return None
        gap = Estimate(found.value - other.value, math.hypot(found.error, other.error))
        return judge(gap, diagnosis)

    return judged


def over_chance(name: str, judge: Judge) -> Judge:
    """The word of a share of what lies between another figure, that of chance, and 1."""

    def judged(found: Estimate, diagnosis: Diagnosis) -> Word | None:
        chance = diagnosis.figure(name)
        if chance is None or not chance < 1:
            return None
        return judge(Estimate(found.value - chance, found.error).over(1 - chance), diagnosis)

    return judged


def per_strategy(judge: Judge) -> Judge:
    """The word of a number divided by that of the joint values; z enumerable."""

    def judged(found: Estimate, diagnosis: Diagnosis) -> Word | None:
        posterior = diagnosis.subject.seen.posterior
        return None if posterior is None else judge(found.over(posterior.shape[1]), diagnosis)

    return judged


def neutral(judge: Judge) -> Judge:
    """The word alone, of what is neither good nor bad."""
    return lambda found, diagnosis: (word := judge(found, diagnosis)) and Word(word.text)


def of_verdict(_: Estimate, diagnosis: Diagnosis) -> Word | None:
    """``used``, ``weak``, ``collapsed`` or ``unknown``, as the findings have it."""
    found = verdict(diagnosis)
    tones = dict(zip(("used", "weak", "collapsed"), TONES, strict=True))
    return None if found is None else Word(found.word, tones.get(found.word, ""))


def trusted(name: str) -> Judge:
    """Whether an estimate can be trusted, by the figure that says so."""

    def judged(_: Estimate, diagnosis: Diagnosis) -> Word | None:
        told = diagnosis.figure(name)
        return (
            None if told is None else Word("to be trusted", "good") if told > 0 else Word("not to be trusted")
        )

    return judged


def _word(place: int, words: tuple[str, ...]) -> Word:
    return Word(words[place], TONES[place])
