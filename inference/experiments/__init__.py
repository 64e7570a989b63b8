"""Experiments: a grid of fits, and what it shows."""

from .agreement import Agreement
from .cells import Cell, choose
from .experiment import Experiment
from .outcomes import Outcome, read_outcomes
from .over_seeds import OverSeeds
from .record import check_folder
from .runner import run_cells
from .selection import Selection
from .summary import Summary, write_tables
from .table import Table

__all__ = [
    "Agreement",
    "Cell",
    "Experiment",
    "Outcome",
    "OverSeeds",
    "Selection",
    "Summary",
    "Table",
    "check_folder",
    "choose",
    "read_outcomes",
    "run_cells",
    "write_tables",
]
