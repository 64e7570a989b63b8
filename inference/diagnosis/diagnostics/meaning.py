"""Whether z means a known strategy, whether the router follows their law, and whether answers are right."""

from __future__ import annotations

from collections.abc import Sequence

from ....models import Generation
from ...evaluation.skill import OfBase
from ...evaluation.task_figures import Forced, task_figures
from ..diagnostic import Readings
from ..subject import Subject


def meaning(subject: Subject) -> Readings:
    """The figures of the evaluation that need a task, on responses of the subject's own draws; nothing without one."""
    if subject.task is None:
        return Readings()
    chosen = subject.values
    texts = (
        None
        if chosen is None
        else Forced(
            chosen, [[_texts(row)] for row in subject.forced], [_texts(row) for row in subject.greedy]
        )
    )
    figures = task_figures(
        subject.task,
        subject.model.backbone,
        subject.data,
        subject.seen,
        [_texts(subject.sampled)],
        texts,
        [OfBase(subject.data.responses, None if chosen is None else chosen.posterior)],
        subject.max_new_tokens,
        subject.seed,
    )
    return Readings(figures)


def _texts(generations: Sequence[Generation]) -> list[str]:
    return [generation.text for generation in generations]
