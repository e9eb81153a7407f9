"""`opentau robot`: the table of what can be done with an arm; imports are late, as in the table of commands."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.command_table import run_command

COMMANDS: dict[str, tuple[str, str]] = {
    "find": ("opentau.cli.robot_find:main", "the serial ports, motors and cameras there are"),
    "setup": ("opentau.cli.robot_setup:main", "give the motors of a new arm their ids, one at a time"),
    "calibrate": ("opentau.cli.robot_calibrate:main", "measure an arm's offsets and ranges by moving it by hand"),
    "check": ("opentau.cli.robot_check:main", "look for what is wrong with an arm and its cameras; exit 1 if anything is"),
    "twin": ("opentau.cli.robot_twin:main", "an emulated SO-101 in real time, to try all of this out without hardware"),
    "connect": ("opentau.cli.robot_connect:main", "have an arm play in a run, between its stages and after interruptions"),
    "record": ("opentau.cli.robot_record:main", "record demonstrations with a leader arm as a LeRobot dataset"),
}

ABOUT = """Set up an SO-101, record with it, and have it play: find, setup, calibrate, check, record, connect (docs/robots.md).
The extra 'robot' brings the drivers."""


def main(argv: Sequence[str]) -> int:
    """Run one of the commands for robots."""
    return run_command("robot", COMMANDS, argv, about=ABOUT)
