"""`opentau bench`: the table of what can be measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.command_table import run_command

COMMANDS: dict[str, tuple[str, str]] = {
    "sim": ("opentau.cli.bench_sim:main", "control steps per second of an environment, and what they are spent on"),
}

ABOUT = """Measure this machine, to know what a run will cost and where its time goes."""


def main(argv: Sequence[str]) -> int:
    """Run one of the measurements."""
    return run_command("bench", COMMANDS, argv, about=ABOUT)
