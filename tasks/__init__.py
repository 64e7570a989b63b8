"""Prompts and pairs: files, self-generated, and the synthetic tasks with known strategies."""

from .files import Row, read_rows, write_rows
from .sorting import Sorting
from .task import Split, Task, Trace, split_of

__all__ = ["Row", "Sorting", "Split", "Task", "Trace", "read_rows", "split_of", "write_rows"]
