"""The report: one page that needs nothing else."""

from .answer import Answer
from .render import render
from .write import write_report

__all__ = ["Answer", "render", "write_report"]
