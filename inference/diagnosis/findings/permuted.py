"""One z means one strategy on some prompts and another on others."""

from __future__ import annotations

from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import Estimate, estimate, percent, share_of
from .verdict import in_use

WEIGHT = 0.7

SWAPPED = 0.05
"""Alignment that is lost to labels that change between prompts: with two strategies, those of one prompt in twenty."""

READ = 0.5
"""Of what the posterior recovers on its own prompt, the share that has to be recovered from other prompts."""

CHANGE = (
    "Reward what a guide common to all prompts can read, `inference=marginal "
    "inference.terms.readable_information.weight=1.0` (default 0.48); `inference=marginal` also starts from "
    "clusters made over all prompts. If that was the fit, try several random starts, `inference=marginal "
    "~inference.terms.distillation fit.starts=3`, or fit longer, `fit.steps=2000`."
)


def permuted(diagnosis: Diagnosis) -> Finding | None:
    """By the known strategies where there are any, else by reading z off responses to other prompts."""
    if not in_use(diagnosis):
        return None
    known = "meaning/per_prompt_gap" in diagnosis.figures
    seen = _known(diagnosis) if known else _unknown(diagnosis)
    if seen is None:
        return None
    caution = (
        "" if known else " Differences that a linear reader of hidden states cannot see would look the same."
    )
    return Finding(
        "labels permuted between prompts",
        WEIGHT,
        seen,
        "On each prompt z tells strategies apart, but the same z is another strategy on another prompt, so that "
        f"choosing it steers at random. Neither likelihood nor information shows this.{caution}",
        CHANGE,
    )


def _known(diagnosis: Diagnosis) -> str | None:
    """Where each prompt's own matching beats one for all, in sampled and greedy responses, and beats luck.

    A z without meaning has a matching on each prompt too, with whatever happened to be drawn there. Greedy responses
    are nearly free of that, and fresh responses of the base in the place of those under z show how far it goes.
    """
    sampled, greedy, luck = (_matched(diagnosis, suffix) for suffix in ("", "_greedy", "_chance"))
    if sampled is None:
        return None
    gaps = [own.value - one.value for own, one in filter(None, (sampled, greedy))]
    gap = share_of(min(gaps), len(diagnosis.subject.data))
    if not gap.above(SWAPPED) or (luck is not None and not sampled[0].above(luck[0].value)):
        return None
    return (
        f"{percent(sampled[0].value)} of the responses follow the strategy of their z if values and strategies "
        f"are matched prompt by prompt, {percent(sampled[1].value)} if they are matched once for all: a share of "
        f"{gap.told()} is lost to labels that change between prompts."
    )


def _matched(diagnosis: Diagnosis, suffix: str) -> tuple[Estimate, Estimate] | None:
    """Share of the responses that follow their strategy, by a matching for each prompt, and by one for all."""
    gap = estimate(diagnosis, f"meaning/per_prompt_gap{suffix}")
    one = estimate(diagnosis, f"meaning/alignment{suffix}")
    if gap is None or one is None:
        return None
    return share_of(min(one.value + gap.value, 1.0), len(diagnosis.subject.data)), one


def _unknown(diagnosis: Diagnosis) -> str | None:
    own, other = (
        estimate(diagnosis, "intervention/self_consistency"),
        estimate(diagnosis, "stability/transfer"),
    )
    chance = estimate(diagnosis, "stability/transfer_chance")
    if own is None or other is None or chance is None or chance.value >= 1:
        return None
    here = Estimate((own.value - chance.value) / (1 - chance.value), own.error / (1 - chance.value))
    there = Estimate((other.value - chance.value) / (1 - chance.value), other.error / (1 - chance.value))
    if not here.above(READ) or not there.below(READ * here.low):
        return None
    return (
        f"The model recovers z from its own responses in {percent(own.value)} of the cases, a reader fitted on "
        f"other prompts in {percent(other.value)} (standard error {100 * other.error:.0f} %; by chance "
        f"{percent(chance.value)})."
    )
