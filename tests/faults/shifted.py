"""Run a module with one of its process's clocks moved: `python -m … wall|monotonic SECONDS FILE MODULE ARGUMENT…`.

The wall clock jumps once FILE exists. A monotonic clock never jumps, but another machine's began elsewhere.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

WALL, MONOTONIC = "wall", "monotonic"
_FUNCTIONS = {WALL: "time", MONOTONIC: "monotonic"}


def shift(kind: str, seconds: float, *, once: Path) -> None:
    """Move this process's clock; the machine's stays as it is."""
    name = _FUNCTIONS[kind]
    read, read_ns = getattr(time, name), getattr(time, f"{name}_ns")

    def offset_s() -> float:
        return seconds if kind == MONOTONIC or once.exists() else 0.0

    setattr(time, name, lambda: read() + offset_s())
    setattr(time, f"{name}_ns", lambda: read_ns() + int(offset_s() * 1e9))


def main() -> None:
    kind, seconds, once, module = sys.argv[1:5]
    shift(kind, float(seconds), once=Path(once))
    sys.argv = [module, *sys.argv[5:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
