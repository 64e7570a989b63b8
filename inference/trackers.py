"""The figures of a fit sent to experiment trackers, through accelerate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import ProjectConfiguration

from ..models.pretrained import write_atomic

FOLDER = "trackers"
"""In a run's folder, what trackers keep on disk."""

PROJECT = "stratagem"

Send = Callable[[str, int, Mapping[str, float]], None]
"""Takes a split, a step and figures by name."""

IDENTITY: dict[str, Callable[[Any], str]] = {
    "tensorboard": lambda _: FOLDER,
    "wandb": lambda run: str(run.id),
    "mlflow": lambda run: str(run.info.run_id),
}
"""Of the trackers that can go on with a run, the name that they know it by."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that accelerate does not know, or that are not installed.

    Raises:
        ValueError: says what there is, or how to install it.
    """
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ValueError(
                f"fit.trackers: no tracker {name!r}; there are {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}"
            )
        if name not in map(str, get_available_trackers()):
            raise ValueError(
                f"fit.trackers: {name} is not installed; run pip install {name}, or leave it out of fit.trackers"
            )


def tracked(names: Sequence[str], run: Path) -> dict[str, Any]:
    """What an :class:`accelerate.Accelerator` has to be told."""
    where = ProjectConfiguration(logging_dir=str(run / FOLDER))
    return {"log_with": list(names), "project_config": where} if names else {}


@contextmanager
def tracking(
    accelerator: Accelerator, run: Path, step: int, lines: Sequence[Mapping[str, Any]]
) -> Iterator[Send]:
    """The trackers that an accelerator logs with, closed at the end whatever happens.

    One that has followed the run goes on with it after ``step``; any other is first sent what there was before.

    Args:
        accelerator: made with what :func:`tracked` gives.
        run: the run's folder.
        step: the last that is done.
        lines: of ``metrics.jsonl`` up to there.

    Yields:
        What sends figures, as ``train/...`` and ``test/...``; it does nothing but in the main process.

    Raises:
        ValueError: a tracker that does not start.
    """
    folder = run / FOLDER
    identities = folder / "runs.json"
    known = json.loads(identities.read_text()) if identities.is_file() else {}
    settings: dict[str, dict[str, Any]] = {
        "tensorboard": {"purge_step": step + 1 if "tensorboard" in known else 0},
        "wandb": {"name": run.name, "dir": str(folder), "resume": "allow", "id": known.get("wandb")},
        "mlflow": {"run_name": run.name, "run_id": known.get("mlflow")},
    }
    if accelerator.log_with and accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        try:
            accelerator.init_trackers(PROJECT, init_kwargs=settings)
        except Exception as error:
            raise ValueError(
                f"fit.trackers: one of {', '.join(map(str, accelerator.log_with))} did not start: {error}"
            ) from error
        followed = {}
        for tracker in accelerator.trackers:
            closing.callback(tracker.finish)
            if tracker.name in IDENTITY:
                followed[tracker.name] = IDENTITY[tracker.name](tracker.tracker)
            if tracker.name not in known:
                for line in lines:
                    tracker.log(_named(line["split"], line), step=line["step"])
        if followed:
            write_atomic(identities, json.dumps(followed).encode())
        yield lambda split, at, figures: accelerator.log(_named(split, figures), at)


def _named(split: str, figures: Mapping[str, Any]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in figures.items() if name not in ("split", "step")}
