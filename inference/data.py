"""Where prompts and responses come from: a task with known strategies, a file of pairs or texts, or the base itself."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..tasks import Row, Split, Task, place_of, read_rows, split_of


@dataclass(frozen=True)
class Texts:
    """Prompts of one split, with a response where there is one to learn from; None is sampled from the base.

    ``annotations`` has a label for each word of a response, or None for a response without; empty for none at all.
    """

    prompts: list[str]
    responses: list[str | None]
    annotations: list[list[str] | None] = field(default_factory=list)


class Data(ABC):
    """A source of prompts and responses.

    Attributes:
        max_new_tokens: of a response sampled from the base, and of a response generated in the evaluation.
        truncate: cut what is too long (prompts at their head, responses at their tail) instead of refusing
            it.
        task: the task with known strategies; None where nothing is known.
        annotations: names of the labels that words of the responses bear.
    """

    max_new_tokens: int
    truncate: bool = False
    task: Task | None = None
    annotations: tuple[str, ...] = ()

    @abstractmethod
    def texts(self, split: Split, seed: int) -> Texts: ...


class TaskData(Data):
    """Prompts of a synthetic task.

    Args:
        task: the task.
        num_train: prompts to fit on; where the task has fewer, all that are found.
        responses_per_prompt: to each of them.
        num_test: held-out prompts.
        responses: ``base``: sampled from the base, the law to factorise; ``task``: from the task's own
            mixture.
        max_new_tokens: of a sampled response.
    """

    def __init__(
        self,
        task: Task,
        num_train: int = 2000,
        responses_per_prompt: int = 1,
        num_test: int = 300,
        responses: str = "base",
        max_new_tokens: int = 32,
    ) -> None:
        if responses not in ("base", "task"):
            raise ValueError(f"data.responses must be base or task, got {responses}")
        check_positive(
            num_train=num_train,
            responses_per_prompt=responses_per_prompt,
            num_test=num_test,
            max_new_tokens=max_new_tokens,
        )
        self.task, self.num = task, {"train": num_train, "test": num_test}
        self.samples, self.responses, self.max_new_tokens = responses_per_prompt, responses, max_new_tokens

    def texts(self, split: Split, seed: int) -> Texts:
        assert self.task is not None
        each = self.samples if split == "train" else 1
        prompts = [
            p for p in self.task.prompts(self.num[split], split, seed, split == "train") for _ in range(each)
        ]
        if self.responses == "base":
            return Texts(prompts, [None] * len(prompts))
        rng = random.Random(f"{split}/{seed}")
        return Texts(prompts, [self.task.sample(prompt, rng).response for prompt in prompts])


class Annotated(Data):
    """A file whose responses may have a label for each of their words, what blanks separate.

    Args:
        annotation_column: of the labels, a JSON list or a text with blanks between them; ``O`` for a word without.
        annotations: their names.
        annotated: share of the training responses that keep theirs; the others teach the law without.
    """

    rows: list[Row]
    path: str | Path | None

    def _annotate(self, column: str | None, names: Sequence[str] | None, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"data.annotated must be between 0 and 1, got {share}")
        if names and column is None:
            raise ValueError(
                "data.annotations: names of labels without the column that has them; set data.annotation_column"
            )
        self.annotations, self.annotated = tuple(str(name) for name in names or ()), share
        self.labels = [None if column is None else self._labels(row, column) for row in self.rows]

    def _labels(self, row: Row, column: str) -> list[str] | None:
        if column not in row.columns:
            raise ValueError(
                f"{self.path}: no column {column}; there are {', '.join(row.columns)}. Set "
                "data.annotation_column to one"
            )
        text = row.columns[column].strip()
        if not text.startswith("["):
            return text.split() or None
        try:
            return ["O" if label is None else str(label) for label in json.loads(text)]
        except ValueError as error:
            raise ValueError(
                f"{self.path}: annotations {text[:40]} are no JSON ({error}); expected a list, or "
                "labels with blanks between"
            ) from None

    def _annotations_of(self, rows: Sequence[int], split: Split, seed: int) -> list[list[str] | None]:
        rng = random.Random(f"annotations/{seed}")
        kept = [split == "test" or rng.random() < self.annotated for _ in rows]
        return [self.labels[i] if keep else None for i, keep in zip(rows, kept, strict=True)]


class FileData(Annotated):
    """Prompts and responses from a JSONL, CSV or TSV file, or prompts alone, one a line, from a TXT file.

    About a share of the distinct prompts is held out, each by its checksum: whatever the seed, and as the file grows.

    Args:
        path: the file.
        prompt_column: column of the prompts.
        response_column: column of the responses; None to sample them from the base.
        separator: text put at the end of each prompt.
        responses_per_prompt: sampled for each distinct prompt, where responses are sampled.
        test_share: of the distinct prompts, about, between 0 and 1.
        max_new_tokens: of a sampled response.
        truncate: cut what is too long instead of refusing it.
        annotation_column, annotations, annotated: as of :class:`Annotated`.

    Raises:
        ValueError: no path, a setting out of range, or a file that cannot be read as told.
    """

    def __init__(
        self,
        path: str | Path | None,
        prompt_column: str = "prompt",
        response_column: str | None = "response",
        separator: str = "",
        responses_per_prompt: int = 1,
        test_share: float = 0.1,
        max_new_tokens: int = 40,
        truncate: bool = False,
        annotation_column: str | None = None,
        annotations: Sequence[str] | None = None,
        annotated: float = 1.0,
    ) -> None:
        if path is None:
            raise ValueError(
                "data: no file given; pass path=FILE (JSONL, CSV, TSV, or TXT with a prompt a line)"
            )
        if not 0 < test_share < 1:
            raise ValueError(f"data.test_share must be between 0 and 1, got {test_share}")
        check_positive(responses_per_prompt=responses_per_prompt, max_new_tokens=max_new_tokens)
        self.rows: list[Row] = read_rows(path, prompt_column, response_column)
        self.path, self.separator, self.samples = path, separator, responses_per_prompt
        self.samples_responses = response_column is None
        if self.samples_responses and annotation_column is not None:
            raise ValueError(
                "data.annotation_column: responses that are sampled have no annotations; give them as well"
            )
        self._annotate(annotation_column, annotations, annotated)
        self.test_share, self.max_new_tokens, self.truncate = test_share, max_new_tokens, truncate

    @property
    def pairs(self) -> list[tuple[str, str | None]]:
        """Prompt and response of each row."""
        return [(row.prompt + self.separator, row.response) for row in self.rows]

    def texts(self, split: Split, seed: int) -> Texts:
        prompts = [row.prompt for row in self.rows]
        if len(set(prompts)) < 2:
            raise ValueError(
                f"{self.path}: a fit needs at least 2 distinct prompts, one of them held out; got 1"
            )
        kept = dict.fromkeys(_part(prompts, self.test_share, split))
        if self.samples_responses:
            prompts = [p + self.separator for p in kept for _ in range(self.samples)]
            return Texts(prompts, [None] * len(prompts))
        chosen = [i for i, row in enumerate(self.rows) if row.prompt in kept]
        rows = [self.rows[i] for i in chosen]
        prompts = [row.prompt + self.separator for row in rows]
        return Texts(prompts, [row.response for row in rows], self._annotations_of(chosen, split, seed))


class TextData(Annotated):
    """Texts without a prompt: x is empty, the LM's begin token alone.

    Args:
        path: a file of texts, JSONL, CSV, TSV or TXT with a text a line; None to sample them from the base.
        column: of the texts.
        test_share: of the file's distinct texts, about, held out by their checksums, between 0 and 1.
        num_train: texts to fit on, where they are sampled.
        num_test: held-out texts, where they are sampled.
        max_new_tokens: of a sampled text.
        truncate: cut what is too long instead of refusing it.
        annotation_column, annotations, annotated: as of :class:`Annotated`.

    Raises:
        ValueError: a setting out of range, or a file that cannot be read as told or has fewer than two texts.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        column: str = "text",
        test_share: float = 0.1,
        num_train: int = 2000,
        num_test: int = 300,
        max_new_tokens: int = 40,
        truncate: bool = False,
        annotation_column: str | None = None,
        annotations: Sequence[str] | None = None,
        annotated: float = 1.0,
    ) -> None:
        check_positive(num_train=num_train, num_test=num_test, max_new_tokens=max_new_tokens)
        if not 0 < test_share < 1:
            raise ValueError(f"data.test_share must be between 0 and 1, got {test_share}")
        self.rows = read_rows(path, column, None, "data.column") if path is not None else []
        self.path, self.test_share, self.truncate = path, test_share, truncate
        self.num, self.max_new_tokens = {"train": num_train, "test": num_test}, max_new_tokens
        if path is None and annotation_column is not None:
            raise ValueError(
                "data.annotation_column: texts that are sampled have no annotations; give a file, path=FILE"
            )
        self._annotate(annotation_column, annotations, annotated)
        if path is not None and len({row.prompt for row in self.rows}) < 2:
            raise ValueError(f"{path}: a fit needs at least 2 distinct texts, one of them held out; got 1")

    @property
    def pairs(self) -> list[tuple[str, str | None]]:
        """No prompt and the text of each row."""
        return [("", row.prompt) for row in self.rows]

    def texts(self, split: Split, seed: int) -> Texts:
        if self.path is None:
            number = self.num[split]
            return Texts([""] * number, [None] * number)
        texts = [row.prompt for row in self.rows]
        kept = set(_part(texts, self.test_share, split))
        rows = [i for i, text in enumerate(texts) if text in kept]
        return Texts([""] * len(rows), [texts[i] for i in rows], self._annotations_of(rows, split, seed))


def _part(texts: list[str], share: float, split: Split) -> list[str]:
    """The texts of a split, whatever the others are, save that each split has one."""
    distinct = dict.fromkeys(texts)
    test = {text for text in distinct if split_of(text, share) == "test"} or {min(distinct, key=place_of)}
    if len(test) == len(distinct):
        test.remove(max(distinct, key=place_of))
    return [text for text in texts if (text in test) == (split == "test")]


def check_positive(**settings: int) -> None:
    """Refuse settings below 1."""
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"data.{name} must be at least 1, got {value}")
