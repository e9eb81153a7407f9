"""What the robot commands share: the workcell's yaml, lines from the terminal, findings as a table."""

from __future__ import annotations

import dataclasses
import json
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from opentau.config import check_args
from opentau.errors import OptionError
from robot_bridge.robots.checking import Finding

SPEC_HELP = "yaml file with the robot, and for recording the teleop: {robot: {target: …, args: {…}}, teleop: {…}}"
PORT_HELP = "serial port, such as /dev/serial/by-id/… (Linux), /dev/tty.usbmodem… (macOS) or COM3 (Windows)"


def read_spec(path: Path, *, needs: Sequence[str] = ("robot",)) -> dict[str, dict[str, Any]]:
    """Read a yaml of plug-ins and check their arguments; raises `OptionError`."""
    try:
        spec = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise OptionError(f"{path} cannot be read: {error}; write it as docs/robots.md shows") from error
    for name in needs:
        if not isinstance(spec, Mapping) or not isinstance(spec.get(name), Mapping) or "target" not in spec[name]:
            raise OptionError(f"{path} has no '{name}: {{target: …, args: {{…}}}}'; write it as docs/robots.md shows")
        check_args(spec[name])
    return {name: dict(spec[name]) for name in needs}


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
