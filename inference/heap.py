"""Memory that a command has used once stays with it."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, of glibc's ``malloc.h``."""

LARGEST = 2**25
"""Bytes up to which a block is kept; glibc takes no more."""


def keep_heap() -> None:
    """Have glibc keep the blocks of tensors that are gone for those that come; elsewhere nothing.

    By default it gives them back to the system, which clears every page of the next ones: up to half of the time of
    a pass of thousands of short rows. Of what is kept, no more is held than was in use at once, and blocks beyond
    :data:`LARGEST` still go back.
    """
    if mallopt := _of_libc("mallopt"):
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(MMAP_THRESHOLD, LARGEST)


def release_heap() -> None:
    """Give back what is kept and not in use."""
    if malloc_trim := _of_libc("malloc_trim"):
        malloc_trim(0)


def _of_libc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
