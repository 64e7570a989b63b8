"""Memory that is kept."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PAGES = """
import resource
import torch
from stratagem.inference.heap import keep_heap, release_heap

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def used():
    for _ in range(5):
        parts = [torch.ones(6_000_000) for _ in range(8)]
        del parts

keep_heap()
used()
before = faults()
used()
print(faults() - before)
release_heap()
before = faults()
used()
print(faults() - before)
"""

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not GLIBC, reason="another allocator than glibc's")
def test_tensors_that_come_again_have_the_pages_of_those_that_went() -> None:
    once = 8 * 24_000_000 // 4096
    said = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    again, released = map(int, said.stdout.split())
    assert again < once / 4
    assert released >= once / 2, "what was given back comes anew"
