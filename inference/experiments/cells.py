"""The cells of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Cell:
    """A run of an experiment.

    Attributes:
        labels: one of each axis, in the order of the axes.
        seed: of the fit.
        commands: what makes it, one after the other, each as the words after ``stratagem``; the first is the fit.
    """

    labels: dict[str, str]
    seed: int
    commands: list[list[str]]

    @property
    def parts(self) -> list[str]:
        """The levels of its folder: the labels, then the seed."""
        return [*self.labels.values(), f"seed{self.seed}"]

    @property
    def name(self) -> str:
        """Its folder below that of the experiment."""
        return "/".join(self.parts)


def choose(cells: Sequence[Cell], only: str | int | list[str | int]) -> list[Cell]:
    """The cells that ``only`` names.

    Args:
        cells: all of the experiment.
        only: labels and seeds; of several on one axis, either. A word that is neither is a pattern of names
            (``sorting/*``).

    Raises:
        ValueError: a word that matches nothing, or that is of two axes, or of one and a seed.
    """
    words = [str(word) for word in (only if isinstance(only, list) else [only])]
    levels = [*cells[0].labels, "seed"]
    found: dict[int, list[str]] = {}
    for word in words:
        named = [n for n in range(len(levels)) if any(_matches(cell, n, word) for cell in cells)]
        if len(named) > 1:
            raise ValueError(
                f"only={word}: {' and '.join(levels[n] for n in named)} each have one; give a pattern of names, "
                f"{'/'.join(word if n == named[0] else '*' for n in range(len(levels)))}, or seed{word} for a seed"
            )
        if not named and not any(_matches(cell, len(levels), word) for cell in cells):
            raise ValueError(f"only={word}: no such cell; {_known(cells)}")
        found.setdefault(named[0] if named else len(levels), []).append(word)
    kept = [
        cell for cell in cells if all(any(_matches(cell, n, w) for w in group) for n, group in found.items())
    ]
    if not words or not kept:
        raise ValueError(f"only=[{','.join(words)}]: no such cell; {_known(cells)}")
    return kept


def _matches(cell: Cell, level: int, word: str) -> bool:
    """Whether a word names the cell's label of an axis, its seed, or, beyond these levels, its whole name."""
    if level == len(cell.parts):
        return fnmatchcase(cell.name, word)
    is_seed = level == len(cell.labels)
    return cell.parts[level] == word or (is_seed and str(cell.seed) == word)


def _known(cells: Sequence[Cell]) -> str:
    axes = {axis: dict.fromkeys(cell.labels[axis] for cell in cells) for axis in cells[0].labels}
    axes["seed"] = dict.fromkeys(str(cell.seed) for cell in cells)
    return "there are " + "; ".join(f"{axis}: {', '.join(labels)}" for axis, labels in axes.items())
