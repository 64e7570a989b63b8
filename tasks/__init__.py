"""Prompts and pairs: files, self-generated, and the synthetic tasks with known strategies."""

from .addition import Addition
from .base_conversion import BaseConversion
from .equations import Equations
from .expressions import Expressions
from .files import Row, check_writable, read_rows, write_rows
from .grid import Grid
from .mixture import Mixture
from .sorting import Sorting
from .steps import StepTask
from .task import Split, Task, Trace, place_of, split_of

__all__ = [
    "Addition",
    "BaseConversion",
    "Equations",
    "Expressions",
    "Grid",
    "Mixture",
    "Row",
    "Sorting",
    "Split",
    "StepTask",
    "Task",
    "Trace",
    "check_writable",
    "place_of",
    "read_rows",
    "split_of",
    "write_rows",
]
