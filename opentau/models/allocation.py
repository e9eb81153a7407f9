"""How the C library keeps freed memory: passes of a network ask for the same blocks again and again."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = (1 << 31) - 1
"""Freed memory at the end of the heap that is kept."""
LARGEST_KEPT_BLOCK_BYTES = 1 << 25
"""Blocks from here on still go back to the system at once: the most that glibc allows."""


def keep_freed_memory() -> bool:
    """Have this process reuse freed blocks instead of asking the system for fresh, zeroed pages; return whether it can.

    glibc gives every block above its threshold back when it is freed, and each pass then faults all its pages in again.
    Other C libraries (macOS, Windows, musl) are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK_BYTES))
