"""The keys of the terminal that a station was started in, shared by all who listen there (Linux and macOS)."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

from opentau.errors import RobotError

KEPT_S = 2.0
"""How long a key waits for somebody who wants it."""


class Terminal:
    """Reads keys one by one, without showing them; several may listen, and each takes the keys that it knows."""

    def __init__(self, file: int | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        """`file`: descriptor of the terminal; None for the program's standard input."""
        self._file = file
        self._now = now
        self._num_users = 0
        self._before: list[Any] | None = None
        self._waiting: list[tuple[float, str]] = []

    def open(self) -> None:
        """Begin to read; every `open` needs its `close`. Ctrl-C still interrupts. Raises `RobotError` without a terminal."""
        self._num_users += 1
        if self._before is not None:
            return
        try:
            import termios  # absent on Windows
            import tty
        except ImportError as error:
            raise RobotError("keys are read from a terminal of Linux or macOS; use another device here") from error
        if self._file is None:
            self._file = sys.stdin.fileno()
        if not os.isatty(self._file):
            raise RobotError(
                "keys are read from a terminal, and there is none; start the station in one, or use another device"
            )
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)

    def close(self) -> None:
        """Give the terminal back as it was when the last one leaves."""
        self._num_users = max(0, self._num_users - 1)
        if self._before is not None and self._num_users == 0:
            import termios  # as in `open`

            assert self._file is not None
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
            self._before = None

    def take(self, wanted: Collection[str]) -> list[str]:
        """Return the keys among `wanted` that were pressed since they were last asked for, oldest first."""
        self._read()
        taken = [key for _, key in self._waiting if key in wanted]
        self._waiting = [(t, key) for t, key in self._waiting if key not in wanted]
        return taken

    def _read(self) -> None:
        assert self._file is not None, "open first"
        now = self._now()
        while select.select([self._file], [], [], 0.0)[0]:
            keys = os.read(self._file, 64).decode(errors="ignore")
            if not keys:
                break  # the terminal is gone
            self._waiting += [(now, key) for key in keys]
        self._waiting = [(t, key) for t, key in self._waiting if now - t <= KEPT_S]


@cache
def own_terminal() -> Terminal:
    """Return the one reader of this program's terminal."""
    return Terminal()
