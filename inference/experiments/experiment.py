"""An experiment: what is fitted, on which seeds, and how it is summed up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from .cells import Cell
from .summary import Summary

OWN = ("run", "seed", "resume")
"""Settings of a fit that the experiment gives."""


@dataclass(frozen=True)
class Experiment:
    """A grid of fits: a cell is one label of each axis, and a seed.

    Args:
        axes: of each axis the labels, each with its settings of ``stratagem fit`` (``fit.steps=200``).
        seeds: of the fits.
        summary: the tables of the figures.
        common: settings of every cell.
        then: commands after the fit, each as the words after ``stratagem``; they get ``run=``.

    Raises:
        ValueError: a name, a setting or a seed that cannot be.
    """

    axes: Mapping[str, Mapping[str, Sequence[str] | None]]
    seeds: Sequence[int]
    summary: Summary
    common: Sequence[str] | None = ()
    then: Sequence[Sequence[str]] | None = ()

    def __post_init__(self) -> None:
        if not isinstance(self.axes, Mapping):
            raise ValueError(f"axes: expected a mapping of axes to their labels, got {self.axes}")
        for axis, labels in self.axes.items():
            if not re.fullmatch(r"\w+", str(axis)) or axis == "seed":
                raise ValueError(f"axes: {axis}: expected a word, and not seed, which every cell has")
            if not isinstance(labels, Mapping) or not labels:
                raise ValueError(
                    f"axes.{axis}: expected its labels, each with a list of settings; got {labels}"
                )
            for label, settings in labels.items():
                if not re.fullmatch(r"\w[\w.+-]*", str(label)):
                    raise ValueError(f"axes.{axis}: {label}: expected a label of letters, digits and . + - _")
                _check_settings(settings or (), f"axes.{axis}.{label}")
        _check_settings(self.common or (), "common")
        for command in self.then or ():
            if not isinstance(command, list) or not command:
                raise ValueError(f"then: {command}: expected a list of words, a command and its settings")
            _check_settings(command[1:], f"then: {command[0]}")
        if not isinstance(self.seeds, list) or not self.seeds or any(type(s) is not int for s in self.seeds):
            raise ValueError(f"seeds={self.seeds}: expected a list of one whole number or more, as in [0,1]")
        if min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds}: expected different numbers, none below 0")
        self.summary.check([str(axis) for axis in self.axes])

    def cells(self, shared: Sequence[str] = ()) -> list[Cell]:
        """All cells, the first axis changing slowest and the seed fastest.

        Args:
            shared: settings of every command, which come after those of the experiment.
        """
        then = [[*command, *shared] for command in self.then or ()]
        cells = []
        for labels in product(*self.axes.values()):
            chosen = [self.axes[axis][label] or () for axis, label in zip(self.axes, labels, strict=True)]
            settings = [*(self.common or ()), *(setting for part in chosen for setting in part), *shared]
            named = {str(axis): str(label) for axis, label in zip(self.axes, labels, strict=True)}
            cells += [Cell(named, seed, [["fit", *settings], *then]) for seed in self.seeds]
        return cells


def _check_settings(settings: Sequence[str], where: str) -> None:
    if isinstance(settings, str):
        raise ValueError(f"{where}: {settings}: expected a list of settings, as in [fit.steps=200]")
    for setting in settings:
        if not isinstance(setting, str) or not re.match(r"\+{0,2}[\w@./:]+=|~\w", setting):
            raise ValueError(f"{where}: {setting}: expected a text key=value")
        key = setting.lstrip("+~").partition("=")[0]
        if key in OWN:
            raise ValueError(f"{where}: {setting}: the experiment gives {key} itself; leave it out")
