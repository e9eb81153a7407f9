"""`opentau robot setup`: ids and speed for the motors of a new arm, one motor at a time."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.compose import parser
from opentau.cli.robot_arguments import PORT_HELP, Lines
from robot_bridge.robots.calibration import JOINTS
from robot_bridge.robots.finding import set_up_motor

DESCRIPTION = """Give each motor of an SO-101 its id (1 shoulder_pan to 6 gripper) and the speed of 1 Mbaud.
  opentau robot setup --port PORT                     all six, from the gripper down
  opentau robot setup --port PORT --joint wrist_flex  one of them, after an exchange

It asks for one motor at a time: with several on the bus, all that still have one id would take the new one."""


def main(argv: Sequence[str]) -> int:
    """Set up the motors."""
    arguments = parser("robot setup", DESCRIPTION, takes_options=False)
    arguments.add_argument("--port", required=True, help=PORT_HELP)
    arguments.add_argument("--joint", action="append", choices=JOINTS, default=[], help="a motor to set up; all by default")
    options = arguments.parse_args(argv)
    lines = Lines()
    for joint in options.joint or reversed(JOINTS):
        motor_id = JOINTS.index(joint) + 1
        lines.ask(f"Connect the controller board to the motor of {joint} only, and its power; then press Enter.")
        old_id, baud_rate = set_up_motor(options.port, motor_id)
        print(f"{joint}: id {motor_id} (it had {old_id} at {baud_rate} baud)", flush=True)
    return 0
