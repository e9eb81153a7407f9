"""A robot and everything local to it: limits, clock, stop, operator, teleoperation device; built once per station."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opentau.config import build, check_args
from opentau.errors import RobotError
from opentau.protocols import Operator, Robot, Teleop
from opentau.types import EpisodePlan, Outcome
from robot_bridge.config import StationConfig
from robot_bridge.workcell.clock import CLOCKS, Ticker
from robot_bridge.workcell.first_runs import FirstRuns
from robot_bridge.workcell.limits import Limits
from robot_bridge.workcell.stop import StopLatch

FIRST_RUNS = "first_runs.json"


def say_to_operator(text: str) -> None:
    """Tell whoever reads what the station says."""
    print(text, file=sys.stderr, flush=True)


class Unattended:
    """An operator for robots that nobody looks after: the scene is always ready, and only time ends an episode."""

    def prepare(self, plan: EpisodePlan) -> bool:
        return True

    def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
        return None


@dataclass(slots=True, kw_only=True)
class Workcell:
    """A robot and everything local to it, shared by all tasks; lives as long as the station."""

    robot: Robot
    limits: Limits
    ticker: Ticker
    latch: StopLatch
    first_runs: FirstRuns
    operator: Operator
    teleop: Teleop | None = None
    say: Callable[[str], None] = say_to_operator
    """Tells whoever stands there."""
    is_connected: bool = False
    is_relaxed: bool = False
    """Whether the actuators were switched off by the stop."""

    def connect(self) -> None:
        """Open robot and device unless they are open; raises `RobotError` that names the part and the fix."""
        if self.is_relaxed:  # connecting takes the present pose as the target, before the actuators have power again
            self.close()
            self.is_relaxed = False
        if self.is_connected:
            return
        self.is_connected = True  # `close` is safe for what is half open
        try:
            self.robot.connect()
            if self.teleop is not None:
                self.teleop.connect()
        except RobotError:
            self.close()
            raise

    def relax(self) -> None:
        """Switch the actuators off; the next `connect` opens the robot anew."""
        if not self.is_relaxed:
            self.robot.relax()
            self.is_relaxed = True

    def close(self) -> None:
        """Let go of robot and device; the robot holds its pose unless it was relaxed."""
        if not self.is_connected:
            return
        self.is_connected = False
        for part in (self.robot, self.teleop):
            try:
                if part is not None:
                    part.close()
            except RobotError as error:
                self.say(f"{type(part).__name__} cannot be closed: {error}")


def make_workcell(config: StationConfig, *, folder: Path) -> Workcell:
    """Build what a station's configuration says; nothing is connected yet. Raises `OptionError`."""
    assert config.robot is not None, "a workcell is a robot's"
    check_args(config.robot)
    if config.teleop:
        check_args(config.teleop, "interface")
    robot: Robot = build(config.robot)
    teleop: Teleop | None = build(config.teleop, interface=robot.interface) if config.teleop else None
    latch = StopLatch()
    latch.listen()
    return Workcell(
        robot=robot,
        limits=Limits.load(folder / config.limits),
        ticker=Ticker(CLOCKS[config.clock or "real"](), hz=robot.interface.control_hz),
        latch=latch,
        first_runs=FirstRuns(folder / FIRST_RUNS),
        operator=build(config.operator) if config.operator else Unattended(),
        teleop=teleop,
    )
