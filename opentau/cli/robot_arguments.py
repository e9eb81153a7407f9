"""What the robot commands share: lines from the terminal, findings as a table."""

from __future__ import annotations

import dataclasses
import json
import queue
import sys
import threading
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from robot_bridge.robots.checking import Finding

PORT_HELP = "serial port, such as /dev/serial/by-id/… (Linux), /dev/tty.usbmodem… (macOS) or COM3 (Windows)"


class Lines:
    """Lines that a person types, taken without waiting or with; the end of the input counts as 'q'."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, text: str) -> str:
        """Say something and wait for a line; the end of the input raises `KeyboardInterrupt`."""
        print(text, file=sys.stderr, flush=True)
        line = self._lines.get()
        if line == "q":
            raise KeyboardInterrupt
        return line

    def newest(self) -> str | None:
        """Return a line that was typed since, or None."""
        try:
            return self._lines.get_nowait()
        except queue.Empty:
            return None

    def _read(self) -> None:
        for line in sys.stdin:
            self._lines.put(line.strip().lower())
        self._lines.put("q")


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print a check's findings; returns the exit code, 1 where something is not good."""
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        table = Table("", "check", "found", "fix")
        for finding in findings:
            table.add_row("[green]✓[/]" if finding.is_good else "[red]✗[/]", finding.name, finding.text, finding.fix)
        Console().print(table)
    return 0 if all(finding.is_good for finding in findings) else 1
