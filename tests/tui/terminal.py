"""A terminal as people have it: tmux with a window of 80×24 characters, in which a program runs and keys are typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_S = 120.0
COLUMNS, ROWS = 80, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """One window of a tmux server of its own."""

    socket: Path

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, f"tmux {words[0]}: {done.stderr}"
        return done.stdout

    def type(self, *keys: str) -> None:
        """Type keys, named as tmux names them."""
        self._tmux("send-keys", *keys)

    def lines(self) -> list[str]:
        """Return the rows of the window."""
        return self._tmux("capture-pane", "-p").split("\n")[:ROWS]

    def sees(self, *texts: str) -> str:
        """Wait until all texts are on the screen and return it."""
        self.waits_for(lambda: all(text in "\n".join(self.lines()) for text in texts), f"{texts} on the screen")
        return "\n".join(self.lines())

    def waits_for(self, happened: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not happened():
            assert time.monotonic() < deadline, f"no {what} within {DEADLINE_S:g} s:\n" + "\n".join(self.lines())
            time.sleep(0.1)

    def pid(self) -> int:
        """Return the process that runs in the window."""
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))


@contextmanager
def terminal(folder: Path, command: Sequence[str], *, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a command in a window; whoever has no tmux is told, since nothing else shows what people see."""
    assert shutil.which("tmux"), "this test drives the screens in tmux: install it (apt-get install tmux)"
    opened = Terminal(socket=folder / "tmux")
    size = ("-x", str(COLUMNS), "-y", str(ROWS))
    words = [
        "tmux",
        "-S",
        str(opened.socket),
        "-f",
        os.devnull,
        "new-session",
        "-d",
        *size,
        *command,
        ";",
        "set-option",
        "-g",
        "remain-on-exit",
        "on",
    ]
    subprocess.run(words, env={**os.environ, "TERM": "xterm-256color", **environment}, check=True, timeout=DEADLINE_S)
    try:
        yield opened
    finally:
        subprocess.run(["tmux", "-S", str(opened.socket), "kill-server"], check=False, capture_output=True)
