"""Names of the data: what is known of each from outside."""

from __future__ import annotations

from ..models.text import shorten
from .data import Data, FileData
from .dataset import Dataset
from .evaluation.meaning import nuisance_labels, strategy_labels

UNKNOWN = "unknown"
"""The name of a datum that has none: its cell is blank, or its response follows no strategy."""


def labels_of(test: Dataset, data: Data, name: str | None) -> list[str]:
    """A name for each datum: of a task its strategy where nothing is asked for, or its nuisance; or a column of a file.

    The data have responses of the base and not those of the file, so that a column has to be about the prompts.

    Raises:
        ValueError: a name that the data do not have, or a column that says two things of one prompt.
    """
    if data.task is not None and name in (None, "strategy", "nuisance"):
        if name == "nuisance":
            places, names = nuisance_labels(data.task, test.responses), data.task.nuisances
        else:
            places, names = strategy_labels(data.task, test.prompts, test.responses), data.task.strategies
        return [names[place] if place >= 0 else UNKNOWN for place in places]
    if name is None:
        return []
    if not isinstance(data, FileData) or any(name not in row.columns for row in data.rows):
        known = (
            "strategy and nuisance"
            if data.task is not None
            else ", ".join(data.rows[0].columns)
            if isinstance(data, FileData)
            else "none"
        )
        raise ValueError(f"labels={name}: the data of the run have no such names; they have {known}")
    of_prompt: dict[str, str] = {}
    for row in data.rows:
        word = row.columns[name].strip() or UNKNOWN
        if (first := of_prompt.setdefault(row.prompt + data.separator, word)) != word:
            raise ValueError(
                f"labels={name}: the file says {first!r} and {word!r} of the prompt {shorten(row.prompt)!r}; expected "
                "the same in all rows of a prompt, since the figures are of other responses to it than the file's"
            )
    return [of_prompt.get(prompt, UNKNOWN) for prompt in test.prompts]
