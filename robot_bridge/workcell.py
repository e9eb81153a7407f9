"""A robot and everything local to it: limits, clock, stop, operator, teleoperation device; built once per station."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opentau.config import build
from opentau.protocols import Operator, Robot, Teleop
from opentau.types import EpisodePlan, Outcome
from robot_bridge.clock import CLOCKS, Ticker
from robot_bridge.config import StationConfig
from robot_bridge.first_runs import FirstRuns
from robot_bridge.limits import Limits
from robot_bridge.stop import StopLatch

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workcell:
    """A robot and everything local to it; lives as long as the station."""

    robot: Robot
    limits: Limits
    ticker: Ticker
    latch: StopLatch
    first_runs: FirstRuns
    operator: Operator
    teleop: Teleop | None = None
    say: Callable[[str], None] = say_to_operator
    """Tells whoever stands there."""


def make_workcell(config: StationConfig, *, folder: Path) -> Workcell:
    """Build what a station's configuration says; nothing is connected yet except the teleoperation device."""
    assert config.robot is not None, "a workcell is a robot's"
    robot: Robot = build(config.robot)
    teleop: Teleop | None = build(config.teleop) if config.teleop else None
    if teleop is not None:
        teleop.connect()
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
