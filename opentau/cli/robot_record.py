"""`opentau robot record`: demonstrations with a leader arm, recorded as a LeRobot dataset."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from opentau.cli.compose import parser
from opentau.cli.robot_arguments import SPEC_HELP, Lines, read_spec
from opentau.config import build
from opentau.data.lerobot.writer import DatasetWriter
from opentau.protocols import Robot, Teleop
from opentau.types import Outcome
from robot_bridge.robots.demonstrating import Demonstration, approach, demonstrate
from robot_bridge.workcell.limits import Limits, TickLimits

DESCRIPTION = """Record demonstrations: the leader moves the robot, and every episode is on disk before the next begins.
  opentau robot record arm.yaml --limits limits.yaml --into demos/pick --prompt "pick up the cube" --episodes 50

Enter starts an episode; Enter again ends it as a success, f and Enter as a failure, d and Enter discards it, q and Enter
stops. An interrupted recording goes on with the same command; the dataset is finished after the last episode."""
_STOP = "q"
_VERDICTS = {"": Outcome.SUCCESS, "s": Outcome.SUCCESS, "f": Outcome.FAILURE, "d": Outcome.ABORTED, _STOP: Outcome.ABORTED}


def main(argv: Sequence[str]) -> int:
    """Record demonstrations."""
    arguments = parser("robot record", DESCRIPTION, takes_options=False)
    arguments.add_argument("spec", type=Path, help=SPEC_HELP)
    arguments.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="the dataset, new or unfinished")
    arguments.add_argument("--prompt", required=True, help="the instruction, as a person would say it")
    arguments.add_argument("--episodes", type=int, required=True, help="how many the dataset shall have")
    arguments.add_argument("--task-id", default="real/0", help="the task's name in results (real/0)")
    arguments.add_argument("--seconds", type=float, default=60.0, help="an episode's longest time (60)")
    arguments.add_argument(
        "--limits", type=Path, required=True, metavar="FILE", help="the robot's limits, as stations have them"
    )
    arguments.add_argument("--lossless", action="store_true", help="keep pictures as PNG, not as video: many times the size")
    options = arguments.parse_args(argv)
    spec = read_spec(options.spec, needs=("robot", "teleop"))
    robot: Robot = build(spec["robot"])
    teleop: Teleop = build(spec["teleop"])
    writer = DatasetWriter(
        options.into,
        interface=robot.interface,
        fps=round(robot.interface.control_hz),
        robot_type=robot.robot_type,
        env_id=robot.robot_type,
        video_cameras=[] if options.lossless else list(robot.interface.cameras),
    )
    limits, lines = TickLimits.of(Limits.load(options.limits), robot.interface), Lines()
    with contextlib.ExitStack() as stack:
        teleop.connect()
        stack.callback(teleop.close)
        robot.connect()
        stack.callback(_switch_off, robot, lines)
        for index in sorted(set(range(options.episodes)) - writer.recorded()):
            shown = _record_one(robot, teleop, writer, lines, index=index, limits=limits, options=options)
            print(json.dumps({"episode": index, **shown}), flush=True)
    writer.finish()
    print(options.into)
    return 0


def _record_one(
    robot: Robot,
    teleop: Teleop,
    writer: DatasetWriter,
    lines: Lines,
    *,
    index: int,
    limits: TickLimits,
    options: argparse.Namespace,
) -> dict[str, object]:
    """Record until an episode is kept; returns what is worth showing of it."""
    while True:
        lines.ask(f"Episode {index}: set the scene up, hold the leader where the robot may go, and press Enter.")
        motion = approach(robot, teleop, limits=limits)
        typed: list[str] = []
        made = demonstrate(
            robot,
            teleop,
            verdict=lambda: _verdict(lines, typed),  # noqa: B023  (called within this turn of the loop)
            prompt=options.prompt,
            task_id=options.task_id,
            index=index,
            max_seconds=options.seconds,
            limits=limits,
            motion=motion,
        )
        if typed[-1:] == [_STOP]:
            raise KeyboardInterrupt
        if made.episode.outcome is not Outcome.ABORTED:
            writer.add(index, made.episode)
            return _summary(made)
        print(f"episode {index} is discarded", file=sys.stderr, flush=True)


def _verdict(lines: Lines, typed: list[str]) -> Outcome | None:
    line = lines.newest()
    if line is None:
        return None
    typed.append(line)
    return _VERDICTS.get(line)


def _summary(made: Demonstration) -> dict[str, object]:
    return {
        "outcome": made.episode.outcome.value,
        "steps": len(made.episode),
        "late_steps": made.num_late_ticks,
        "max_image_age_ms": round(1000 * made.max_image_age_s),
    }


def _switch_off(robot: Robot, lines: Lines) -> None:
    """Switch the robot off once somebody holds it; at the end of the input at once."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            lines.ask("Hold the arm: pressing Enter switches its power off.")
        robot.relax()
    finally:
        robot.close()
