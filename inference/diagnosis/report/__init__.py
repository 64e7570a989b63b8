"""The report: one page that needs nothing else."""

from .render import render
from .write import write_report

__all__ = ["render", "write_report"]
