"""Files and folders that one process has to itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def lock(file: BinaryIO | int) -> bool:
    """Lock an open file for this process and those that it hands the file to; whether nobody else had."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, where the system can, as long as a run is written into it.

    Raises:
        ValueError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock(descriptor):
            raise ValueError(
                f"run={folder}: another process is at work in this folder; wait for it, stop it, or give another run="
            )
        yield
    finally:
        os.close(descriptor)
