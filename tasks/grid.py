"""Paths through a grid with obstacles, the response being the moves of one way of finding one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .steps import Steps, StepTask, check_range, spaced

Cell = tuple[int, int]

MOVES = {"U": (-1, 0), "R": (0, 1), "D": (1, 0), "L": (0, -1)}
"""Clockwise."""


@dataclass(frozen=True)
class Maze:
    """A grid, entered in its top row and left in its bottom row.

    Attributes:
        rows, columns: of the grid.
        entry: column of the start.
        door: column of the goal.
        obstacles: cells that no path may touch.
    """

    rows: int
    columns: int
    entry: int
    door: int
    obstacles: frozenset[Cell]

    @property
    def across(self) -> str:
        """The moves along a row."""
        return ("R" if self.door > self.entry else "L") * abs(self.door - self.entry)

    @property
    def down(self) -> str:
        """The moves along a column."""
        return "D" * (self.rows - 1)

    def after(self, cell: Cell, move: str) -> Cell | None:
        """The cell that a move leads to; None where it is no cell or has an obstacle."""
        to = cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]
        inside = 0 <= to[0] < self.rows and 0 <= to[1] < self.columns
        return to if inside and to not in self.obstacles else None

    def solved_by(self, moves: Sequence[str]) -> bool:
        """Whether the moves lead from the start to the goal."""
        cell: Cell | None = (0, self.entry)
        for move in moves:
            cell = None if cell is None or move not in MOVES else self.after(cell, move)
        return cell == (self.rows - 1, self.door)


def row(maze: Maze) -> Steps | None:
    """Along the row as far as the goal's column, then down."""
    return _if_free(maze, maze.across + maze.down)


def column(maze: Maze) -> Steps | None:
    """Down the column, then along the bottom row."""
    return _if_free(maze, maze.down + maze.across)


def staircase(maze: Maze) -> Steps | None:
    """One down, one across, and so on; then straight."""
    pairs = itertools.zip_longest(maze.down, maze.across, fillvalue="")
    return _if_free(maze, "".join(move for pair in pairs for move in pair))


def wall(maze: Maze) -> Steps | None:
    """Off to the right with the left hand on the wall and on what stands at it; not where a cell comes twice."""
    cell, heading, moves = (0, maze.entry), 1, ""
    seen = {cell}
    while cell != (maze.rows - 1, maze.door):
        for turn in (-1, 0, 1, 2):
            move = "URDL"[(heading + turn) % 4]
            to = maze.after(cell, move)
            if to is not None:
                break
        if to is None or to in seen:
            return None
        cell, heading, moves = to, (heading + turn) % 4, moves + move
        seen.add(cell)
    return _runs(moves)


def _if_free(maze: Maze, moves: str) -> Steps | None:
    return _runs(moves) if maze.solved_by(moves) else None


def _runs(moves: str) -> Steps:
    return [" ".join(run) for _, run in itertools.groupby(moves)]


class Grid(StepTask):
    """``path 1 3 # 0 2 # 3 1 # 3 4 :``, from column 1 of the top row to column 3 of the bottom row, past obstacles.

    Answered by moves to the goal, a mark at each turn: ``D ; R ; D ; R ; D D``. A way that meets an obstacle is not
    admissible; the wall's goes round those at the wall. Every prompt admits two strategies at least, which may go the
    same way where there are many obstacles. ``row`` and ``wall`` begin alike where the goal lies to the right: they
    diverge late.

    Args:
        rows: of the grid, 3 to 10.
        columns: of the grid, 3 to 10; the start and the goal are in different ones, not in the last.
        obstacles: in the grid.
        strategies, strategy_weights, nuisances, nuisance_weights: as in :class:`StepTask`.
    """

    name: ClassVar[str] = "grid"
    head: ClassVar[str] = "path"
    form: ClassVar[str] = r"path (\d)(\d)((?: # \d\d)*) :"
    known: ClassVar = {f.__name__: f for f in (row, column, staircase, wall)}

    def __init__(
        self,
        rows: int = 5,
        columns: int = 5,
        obstacles: int = 3,
        strategies: Sequence[str] | None = None,
        strategy_weights: Sequence[float] | None = None,
        nuisances: Sequence[str] = (";", "|"),
        nuisance_weights: Sequence[float] | None = None,
    ) -> None:
        check_range("task grid, rows", 3, 10, rows)
        check_range("task grid, columns", 3, 10, columns)
        check_range("task grid, obstacles", 0, rows * columns - 2, obstacles)
        self.rows, self.columns, self.obstacles = rows, columns, obstacles
        super().__init__(strategies, strategy_weights, nuisances, nuisance_weights)

    @property
    def symbols(self) -> tuple[str, ...]:
        numbers = map(str, range(max(self.rows, self.columns)))
        return ("path", ":", *numbers, *(["#"] if self.obstacles else []), *MOVES)

    def draw_prompt(self, rng: random.Random) -> str:
        for _ in range(10_000):
            entry, door = rng.sample(range(self.columns - 1), 2)
            ends = {(0, entry), (self.rows - 1, door)}
            free = [c for c in itertools.product(range(self.rows), range(self.columns)) if c not in ends]
            taken = sorted(rng.sample(free, self.obstacles))
            maze = Maze(self.rows, self.columns, entry, door, frozenset(taken))
            if sum(self.known[s](maze) is not None for s in self.strategies) >= min(2, len(self.strategies)):
                return spaced(f"path {entry}{door}{''.join(f' # {r}{c}' for r, c in taken)} :")
        raise ValueError(
            f"task grid: {self.obstacles} obstacles in {self.rows} rows of {self.columns} leave no choice between "
            f"{', '.join(self.strategies)} in 10,000 draws; lower obstacles"
        )

    def problem(self, prompt: str) -> tuple[Maze]:
        entry, door, listed = self.match(prompt)
        taken = [(int(cell[0]), int(cell[1])) for cell in listed.split(" # ")[1:]]
        maze = Maze(self.rows, self.columns, int(entry), int(door), frozenset(taken))
        ends = {(0, maze.entry), (self.rows - 1, maze.door)}
        outside = [c for c in [*ends, *taken] if c[0] >= self.rows or c[1] >= self.columns]
        if outside or maze.entry == maze.door or ends & maze.obstacles:
            raise self.foreign(prompt)
        return (maze,)

    def is_correct(self, prompt: str, response: str) -> bool:
        return self.problem(prompt)[0].solved_by([s for s in response.split() if s not in self.nuisances])
