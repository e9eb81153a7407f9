"""Freed memory is reused: a process of its own counts the pages that it has to be given anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from opentau.models.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def one_pass():
    return [np.ones(3 << 20, np.float64) for _ in range(5)]


one_pass()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    one_pass()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES_OF_ONE_BLOCK = 8 * (3 << 20) // 4096


def num_new_pages(mode: str) -> int:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "PATH": "", "NUMPY_MADVISE_HUGEPAGE": "0"},
    )
    return int(found.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a switch of glibc's")
def test_blocks_that_were_freed_are_used_again() -> None:
    assert num_new_pages("keep") < PAGES_OF_ONE_BLOCK < num_new_pages("leave")
