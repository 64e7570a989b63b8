"""The command line: ``stratagem <command> key=value ...``."""

from .main import main

__all__ = ["main"]
