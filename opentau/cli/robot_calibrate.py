"""`opentau robot calibrate`: offsets and ranges of an arm, measured by moving it by hand, or taken from a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from opentau.cli.compose import parser
from opentau.cli.robot_arguments import PORT_HELP, Lines
from robot_bridge.robots.arm import Arm
from robot_bridge.robots.calibrating import Span, calibrate
from robot_bridge.robots.calibration import JOINTS, read_calibration, write_calibration
from robot_bridge.robots.feetech import UNHURRIED_S, FeetechBus

DESCRIPTION = """Measure an arm's calibration, write it into its motors and into a file of LeRobot's format.
  opentau robot calibrate --port PORT --out follower.json     by hand; the motors are powered off
  opentau robot calibrate --port PORT --from follower.json    write an existing file, ours or LeRobot's, into the motors

LeRobot keeps its files under ~/.cache/huggingface/lerobot/calibration/robots/so_follower and …/teleoperators/so_leader."""
_SHOW_EVERY = 25


def main(argv: Sequence[str]) -> int:
    """Calibrate an arm."""
    arguments = parser("robot calibrate", DESCRIPTION, takes_options=False)
    arguments.add_argument("--port", required=True, help=PORT_HELP)
    target = arguments.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="FILE", help="where the new calibration goes")
    target.add_argument("--from", dest="source", type=Path, metavar="FILE", help="a calibration to write into the motors")
    options = arguments.parse_args(argv)
    bus = FeetechBus(options.port, reply_timeout_s=UNHURRIED_S)
    if options.source:
        arm = Arm(bus, read_calibration(options.source), use_degrees=True)
        arm.connect()
        try:
            arm.power(is_on=False)
            arm.write_calibration()
        finally:
            bus.close()
        print(f"the motors on {options.port} hold {options.source}")
        return 0
    lines = Lines()
    bus.open()
    try:
        found = calibrate(bus, ask=lines.ask, is_done=lambda: lines.newest() is not None, on_span=_Spans())
    finally:
        bus.close()
    write_calibration(options.out, found)
    print(options.out)
    return 0


class _Spans:
    """Shows now and then how far each joint has been moved."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, spans: Mapping[str, Span]) -> None:
        if self._calls % _SHOW_EVERY == 0:
            shown = "  ".join(f"{joint} {spans[joint].low}…{spans[joint].now}…{spans[joint].high}" for joint in JOINTS)
            print(shown, file=sys.stderr, flush=True)
        self._calls += 1
