"""More data are needed to tell."""

from __future__ import annotations

import math

from ..diagnostic import Diagnosis
from ..finding import Finding
from .drifted import KEPT, divergence
from .evidence import percent, plural
from .verdict import verdict

UNDECIDED, ROUGH = 0.95, 0.2
"""Weights: where the data do not tell collapse from use, and where it is something lesser that they do not tell."""

LEAST = 10
"""Data for each value in use from which its share is known to a third: the error of a count of ten."""

CHANGE = (
    "Use more held-out prompts: `stratagem diagnose run=DIR limit=2000` (default 500), and where there are no "
    "more, hold out more in the fit, `data.num_test=2000` (a task) or `data=pairs path=FILE data.test_share=0.3` "
    "(a file)."
)


def too_few(diagnosis: Diagnosis) -> Finding | None:
    """The intervals are wider than the differences that matter."""
    count = plural(len(diagnosis.subject.data), "held-out response")
    if len(diagnosis.subject.data) < LEAST:
        return Finding(
            "too few data",
            UNDECIDED,
            f"There {'is' if len(diagnosis.subject.data) == 1 else 'are'} {count}; below {LEAST} the errors of the "
            "figures are not known either.",
            "What is said of this run may be chance, and what is not found may still be there.",
            CHANGE,
        )
    found = verdict(diagnosis)
    if found is not None and found.word == "unknown":
        return Finding(
            "too few data",
            UNDECIDED,
            f"With {count} the information of z is {found.information.told('nats')} of {found.ceiling:.2f} nats: "
            "it may be collapsed as well as used.",
            "Whether z is used cannot be told yet, nor anything that builds on it.",
            CHANGE,
        )
    open_questions = [*_fidelity(diagnosis), *_usage(diagnosis)]
    if not open_questions:
        return None
    return Finding(
        "too few data",
        ROUGH,
        f"With {count} {'; '.join(open_questions)}.",
        "What is said about these may be chance, and what is not found may still be there.",
        CHANGE,
    )


def _fidelity(diagnosis: Diagnosis) -> list[str]:
    """Whether the interval of KL(p0 || p) reaches from a kept law to one that is three times as far off as that."""
    found = divergence(diagnosis)
    if found is None or found.above(KEPT) or found.below(3 * KEPT):
        return []
    return [f"KL(p0 || p) is {found.told('nats a token')}: the base law may be kept as well as drifted"]


def _usage(diagnosis: Diagnosis) -> list[str]:
    """Whether the shares of the values are known."""
    in_effect = diagnosis.figure("use/usage")
    count = len(diagnosis.subject.data)
    if in_effect is None or not math.isfinite(in_effect) or count >= LEAST * in_effect:
        return []
    error = math.sqrt(in_effect / count)
    return [
        f"there are {count / in_effect:.0f} for each of {in_effect:.0f} values in use, so that the share of each "
        f"has an error of {percent(error)} of itself"
    ]
