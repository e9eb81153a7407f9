"""`opentau robot check`: what is wrong with an arm and its cameras, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from opentau.cli.robot_arguments import show_findings
from opentau.cli.robot_workcell import compose_workcell, require_ours, workcell_parser
from opentau.config import build, check_args, locate
from opentau.errors import OptionError, RobotError
from robot_bridge.robots.checking import Finding, check_bus, check_camera, check_directions, check_motors
from robot_bridge.robots.picture import compare_pictures, write_side_by_side
from robot_bridge.robots.so101 import So101Follower

DESCRIPTION = """Check an SO-101: port, ids, supply voltage, temperatures, calibration, ranges, cameras.
  opentau robot check arm.yaml                           or robot=so101 robot.args.port=PORT robot.args.calibration=FILE
  opentau robot check arm.yaml --move                    also move every joint by 3.5 degrees and back
  opentau robot check arm.yaml --dataset owner/name      also compare the cameras with a dataset's, side by side as PNG"""
_REFERENCES = "opentau.cli.robot_references:first_frames"
"""Late: it reads datasets, which the other checks do not need."""


def main(argv: Sequence[str]) -> int:
    """Check a robot."""
    arguments = workcell_parser("robot check", DESCRIPTION)
    arguments.add_argument("--move", action="store_true", help="check the directions: its surroundings must be free")
    arguments.add_argument("--dataset", help="compare each camera with the dataset's camera of that name")
    arguments.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where the pictures go (here)")
    arguments.add_argument("--json", action="store_true", help="one line for scripts")
    options = arguments.parse_intermixed_args(argv)
    plain = compose_workcell(options.words).plain
    require_ours(plain, "check")
    spec = plain["robot"]
    check_args(spec)
    robot = build(spec)
    if not isinstance(robot, So101Follower):
        raise OptionError(f"{spec['target']} is no SO-101 follower; `opentau robot check` knows no other arm yet")
    references = locate(_REFERENCES)(options.dataset) if options.dataset else {}
    try:
        findings = list(_arm_findings(robot, path=robot.arm.bus.port.path, moves=options.move))
        for name in robot.cameras:
            findings += _camera_findings(robot, name, references.get(name), out=options.out, is_compared=bool(references))
    finally:
        robot.close()
    return show_findings(findings, as_json=options.json)


def _arm_findings(robot: So101Follower, *, path: str, moves: bool) -> Iterator[Finding]:
    is_good = True
    for finding in check_bus(path):
        is_good &= finding.is_good
        yield finding
    if not is_good:
        return
    try:
        robot.arm.connect()
        for finding in check_motors(robot.arm):
            is_good &= finding.is_good
            yield finding
        if moves and is_good:
            robot.hold()
            robot.arm.power(is_on=True)
            yield from check_directions(robot.arm)
            robot.relax()
    except RobotError as error:
        text, _, fix = str(error).rpartition("; ")
        yield Finding(name="motors", is_good=False, text=text, fix=fix)
    finally:
        robot.arm.bus.close()


def _camera_findings(
    robot: So101Follower, name: str, references: list[np.ndarray] | None, *, out: Path, is_compared: bool
) -> list[Finding]:
    camera = robot.cameras[name]
    try:
        camera.start()
    except RobotError as error:
        text, _, fix = str(error).rpartition("; ")
        return [Finding(name=f"camera {name}", is_good=False, text=text or str(error), fix=fix)]
    finding, picture = check_camera(camera)
    if picture is None or not is_compared:
        return [finding]
    if references is None:
        fix = "name the cameras as in the dataset"
        return [finding, Finding(name=f"picture {name}", is_good=False, text="the dataset has no such camera", fix=fix)]
    compared, path = compare_pictures(picture, references), out / f"check-{name}.png"
    write_side_by_side(path, picture, references[0])
    text = f"structure {compared.structure:.2f}, colours {compared.colour_distance:.2f} apart; see {path}"
    return [
        finding,
        Finding(name=f"picture {name}", is_good=not compared.problems, text=text, fix="; ".join(compared.problems)),
    ]
