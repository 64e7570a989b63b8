"""Prompts with what the strategies answer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ....models import Generation
from ....tasks import Task
from ..diagnostic import Diagnosis
from ..pictures.strategies import strategy_headings

CELLS = 10_000
"""Responses shown at most."""

LONGEST = 1_200
"""Letters of a text that are shown."""


TOLD = {
    True: "the likeliest tokens under each strategy, side by side",
    False: "the likeliest tokens under the centre of each cluster of z, side by side",
}
"""What stands beside the response of the base, by whether z is enumerable."""


@dataclass(frozen=True)
class Cell:
    """A response.

    Attributes:
        text: what is shown of it.
        note: what is known of it.
        twin: the column before it with the same response; None where there is none.
    """

    text: str
    note: str = ""
    twin: str | None = None


@dataclass(frozen=True)
class Row:
    """A prompt.

    Attributes:
        prompt: what is shown of it.
        label: the user's name for the datum; empty where there is none.
        strategy: the column of the likeliest given the response of the base; None where no column is a strategy.
        cells: the response of the base, and one for each column beside it.
    """

    prompt: str
    label: str
    strategy: int | None
    cells: list[Cell]


@dataclass(frozen=True)
class Outputs:
    """The table.

    Attributes:
        told: what they are.
        columns: headings of the responses beside that of the base.
        strategies: whether the columns are values of z.
        rows: from the first prompt on.
        total: prompts that there are.
    """

    told: str
    columns: list[str]
    strategies: bool
    rows: list[Row]
    total: int


def outputs(diagnosis: Diagnosis) -> Outputs:
    """Every strategy's likeliest tokens side by side, the centres of clusters for the strategies of continuous latents.

    Draws of the model where some latents are continuous and some are not. At most :data:`CELLS` responses in all.
    """
    subject = diagnosis.subject
    chosen = subject.values
    columns = ["model, z from the router"] if chosen is None else strategy_headings(subject)
    answers = [subject.sampled] if chosen is None else subject.greedy
    count = min(len(subject.data), max(1, CELLS // (1 + len(columns))))
    shares = None if chosen is None else chosen.posterior
    rows = [_row(diagnosis, n, columns, [row[n] for row in answers], shares) for n in range(count)]
    told = TOLD[subject.enumerable] if chosen is not None else "one drawn from the model"
    return Outputs(told, columns, chosen is not None, rows, len(subject.data))


def _row(
    diagnosis: Diagnosis, n: int, columns: list[str], answers: list[Generation], shares: Tensor | None
) -> Row:
    subject = diagnosis.subject
    prompt, router = subject.data.prompts[n], subject.seen.router
    label = diagnosis.labels[n] if n < len(diagnosis.labels) else ""
    strategy = None if shares is None else int(shares[n].argmax())
    notes = (
        [""] if strategy is None or shares is None else [f"{columns[strategy]} at {shares[n, strategy]:.2f}"]
    )
    notes += (
        [""] * len(answers) if router is None else [f"router {share:.2f}" for share in router[n].tolist()]
    )
    texts = [subject.data.responses[n], *(answer.text for answer in answers)]
    cells = []
    for place, (text, note) in enumerate(zip(texts, notes, strict=True)):
        known = [part for part in (note, *_known(subject.task, prompt, text)) if part]
        first = texts.index(text, 1) if place else 0
        twin = columns[first - 1] if first < place else None
        cells.append(Cell(short(text), " · ".join(known), twin))
    return Row(short(prompt), label, strategy, cells)


def _known(task: Task | None, prompt: str, response: str) -> list[str]:
    """What the task says of a response: the strategies that it follows, and whether its answer is wrong."""
    if task is None:
        return []
    followed = sorted(task.strategies_of(prompt, response))
    wrong = [] if task.is_correct(prompt, response) else ["wrong answer"]
    return [" or ".join(followed) or "no known strategy", *wrong]


def short(text: str) -> str:
    """What is shown of a text: at most :data:`LONGEST` letters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
