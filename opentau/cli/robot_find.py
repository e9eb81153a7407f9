"""`opentau robot find`: the serial ports with the motors on them, and the cameras."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from opentau.cli.compose import parser
from opentau.cli.robot_arguments import PORT_HELP, Lines
from opentau.errors import RobotError
from robot_bridge.robots.finding import new_port, scan_port
from robot_bridge.robots.registers import BAUD_RATES
from robot_bridge.robots.serial_port import list_ports
from robot_bridge.robots.usb_camera import list_cameras

DESCRIPTION = """List the serial ports, who answers on them at which speed, and the cameras.
  opentau robot find                    every USB serial port
  opentau robot find --port PORT        one port, whatever it is
  opentau robot find --pull             tell two arms apart by pulling a cable

Motors come from the factory with id 1: several new ones on one bus collide. Give them ids with `opentau robot setup`.
Cameras are listed on Linux only, by names that stay the same; macOS: System Information; Windows: Device Manager."""


def main(argv: Sequence[str]) -> int:
    """Look for arms and cameras."""
    arguments = parser("robot find", DESCRIPTION, takes_options=False)
    arguments.add_argument("--port", help=PORT_HELP)
    arguments.add_argument("--pull", action="store_true", help="find the port of one arm by pulling its cable")
    arguments.add_argument("--json", action="store_true", help="one line for scripts")
    options = arguments.parse_args(argv)
    if options.pull:
        print(new_port(lambda: sorted(list_ports()), ask=Lines().ask))
        return 0
    ports = {options.port: ""} if options.port else list_ports()
    found = {path: _look(path) for path in ports}
    cameras = list_cameras()
    if options.json:
        print(json.dumps({"ports": found, "cameras": cameras}))
        return 0
    for path, answers in found.items():
        print(f"{path}  {ports[path]}")
        for text in _lines(answers):
            print(f"  {text}")
    if not found:
        print("no USB serial port: plug the arm's controller board in", file=sys.stderr)
    for camera in cameras:
        print(f"camera {camera}")
    return 0


def _look(path: str) -> dict[str, Any]:
    try:
        found = scan_port(path, baud_rates=BAUD_RATES)
    except RobotError as error:
        return {"error": str(error)}
    return {
        str(each.baud_rate): {"motors": {str(i): m for i, m in each.models.items()}, "collisions": each.has_collisions}
        for each in found
    }


def _lines(answers: dict[str, Any]) -> list[str]:
    if "error" in answers:
        return [answers["error"]]
    lines = []
    for rate, each in answers.items():
        motors = ", ".join(f"{motor} ({model})" for motor, model in each["motors"].items()) or "none readable"
        lines.append(f"at {rate} baud: motors {motors}")
        if each["collisions"]:
            lines.append("  answers collide: two motors have one id; run `opentau robot setup`, one motor plugged in at a time")
    return lines or ["no motor answers: switch the arm's power on and check its cables"]
