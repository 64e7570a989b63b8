"""Runs side by side: what their settings differ in, and their figures over the seeds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from .fit import METRICS, STATE
from .metrics import read_metrics
from .run_folder import CHOICES, CONFIG_FILE, FREE, read_config

EVALUATION = "evaluation.json"

MARKS = (CONFIG_FILE, METRICS, EVALUATION, STATE, "log.txt")
"""Files that a run leaves, the last one from its first moment on."""

ALIKE = ("seed", *FREE)
"""Settings that runs of one row may differ in."""

SMALLER = re.compile(
    r"(pruned/)?(fidelity/kl_.*|use/posterior_gap|meaning/(nuisance_ami|per_prompt_gap).*|router/.*"
    r"|skill/.*_gap(_of_base)?|.*_se)"
    r"|seconds|peak_memory"
)
"""Figures of which less is better."""


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Attributes:
        folder: where it lies.
        settings: by dotted name, without those that :data:`ALIKE` names.
        choices: the option chosen, by the place in the config that it fills.
        figures: those of ``evaluation.json``; ``bound``, the last one on held-out data; ``seconds``, the median
            of a step; ``peak_memory`` in MiB.
    """

    folder: Path
    settings: dict[str, str]
    choices: dict[str, str]
    figures: dict[str, float]


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but the seed.

    Attributes:
        settings: what tells them from the other rows.
        runs: at least one.
    """

    settings: dict[str, str]
    runs: list[Run]

    @property
    def label(self) -> str:
        """The settings in a line."""
        return " ".join(f"{name}={value}" for name, value in self.settings.items() if value) or "all runs"

    def values(self, figure: str) -> list[float]:
        """The figure of each run that has it."""
        found = (run.figures.get(figure, math.nan) for run in self.runs)
        return [value for value in found if not math.isnan(value)]


@dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Attributes:
        runs: those that have ended.
        notes: what is missing, by run; of those without an evaluation, which are among ``runs``, as well.
    """

    runs: list[Run]
    notes: dict[Path, str]


def find_runs(folder: Path) -> Found:
    """Every run in a folder, the folder itself included."""
    runs, notes = [], {}
    for path in _run_folders(folder):
        try:
            run = read_run(path)
        except (ValueError, OSError) as error:
            notes[path] = str(error)
            continue
        runs.append(run)
        if not (path / EVALUATION).is_file():
            notes[path] = f"no {EVALUATION}; a LatentLM gets one by stratagem evaluate"
    return Found(runs, notes)


def _run_folders(folder: Path) -> Iterator[Path]:
    if any((folder / name).is_file() for name in MARKS):
        yield folder
    if not (folder / CONFIG_FILE).is_file():  # what lies in a run is its own
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield from _run_folders(path)


def read_run(folder: Path) -> Run:
    """A run with its figures.

    Raises:
        ValueError: files that are missing or broken, or a fit that has not ended.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"no {CONFIG_FILE}; it was refused or stopped before its first step (see log.txt)")
    try:
        config = OmegaConf.to_container(read_config(folder), resolve=True)
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{CONFIG_FILE} cannot be read: {str(error).splitlines()[0]}") from None
    assert isinstance(config, dict)
    lines = read_metrics(folder / METRICS)
    tests = [line for line in lines if line["split"] == "test"]
    if not tests:
        raise ValueError(f"no held-out figures in {METRICS}; it was stopped before its first evaluation")
    evaluated = (folder / EVALUATION).is_file()
    steps = config.get("fit", {}).get("steps", math.inf)
    if not evaluated and tests[-1]["step"] < steps:
        raise ValueError(f"stopped after step {tests[-1]['step']} of {steps}; go on with resume=true")
    try:
        figures = json.loads((folder / EVALUATION).read_text()) if evaluated else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{EVALUATION} cannot be read: {error}; run stratagem evaluate again") from None
    train = [line for line in lines if line["split"] == "train"]
    figures["bound"] = tests[-1]["bound"]
    if train:
        figures["seconds"] = median(line["seconds"] for line in train)
    if memory := [line["peak_memory"] for line in train if "peak_memory" in line]:
        figures["peak_memory"] = max(memory)
    choices = {group.split("@")[-1]: option for group, option in config.pop(CHOICES, {}).items()}
    settings = {name: value for name, value in _flat(config) if name not in ALIKE}
    return Run(folder, settings, choices, figures)


def _flat(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a config by dotted name, as text; a class by its own name."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if children:
        for key, child in children:
            yield from _flat(child, f"{name}.{key}" if name else str(key))
    elif name.endswith("._target_"):
        yield name, str(node).rpartition(".")[2]
    else:
        yield name, node if isinstance(node, str) else json.dumps(node)


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """The runs in rows of equal settings; each row's settings are all that tells it from the others."""
    shown = _differences(runs)
    rows: dict[tuple[str, ...], Row] = {}
    for place, run in enumerate(runs):
        settings = {name: values[place] for name, values in shown.items()}
        rows.setdefault(tuple(settings.values()), Row(settings, [])).runs.append(run)
    return list(rows.values())


def _differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the runs differ in: a value for each of them, by name; nothing (``""``) where a run lacks it.

    An option of a group stands for all that it sets, so that of what lies under it only that is told in which runs
    with the same option differ. A setting that repeats another (``model.latents.z.K``) is told once.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    values = {name: [run.settings.get(name, "") for run in runs] for name in names}
    for name in names:
        copied = [name[dot.end() :] for dot in re.finditer(r"\.", name)]
        if any(values.get(other) == values[name] for other in copied):
            del values[name]
    places = dict.fromkeys(place for run in runs for place in run.choices)
    chosen = {place: [run.choices.get(place, "") for run in runs] for place in places}
    differing = {place: options for place, options in chosen.items() if len(set(options)) > 1}
    shown = dict(differing)
    for name, found in values.items():
        above = [options for place, options in differing.items() if name.startswith(f"{place}.")]
        above_each = list(zip(*above, strict=True)) or [()] * len(runs)
        if len(set(zip(above_each, found, strict=True))) > len(set(above_each)):
            shown[name.removesuffix("._target_")] = found
    return shown


def ranked(rows: Sequence[Row], figure: str) -> list[Row]:
    """The rows by the median of a figure, the best first, those without it last.

    Raises:
        ValueError: no run has the figure.
    """
    if not any(row.values(figure) for row in rows):
        known = sorted(
            {name for row in rows for run in row.runs for name in run.figures if not name.endswith("_se")}
        )
        raise ValueError(f"sort={figure}: no run has this figure; there are {', '.join(known)}")
    sign = 1 if SMALLER.fullmatch(figure) else -1

    def place(row: Row) -> float:
        values = row.values(figure)
        return sign * median(values) if values else math.inf

    return sorted(rows, key=place)
