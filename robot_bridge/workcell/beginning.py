"""What comes before a robot's episode: a released stop, a scene that is set up, and the way to the start pose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from opentau.errors import RobotError
from opentau.types import EpisodePlan
from robot_bridge.workcell.cell import Workcell
from robot_bridge.workcell.drive import Drive
from robot_bridge.workcell.limits import pose_of

ARRIVED = 0.01
"""Distance, as a part of an axis's range, at which the arm has come to its start pose."""
SETTLE_TICKS = 60
"""Longest wait for the arm to follow its target to the start pose, control ticks."""


def begin_episode(cell: Workcell, drive: Drive, plan: EpisodePlan) -> float:
    """Wait for the operator and a released stop, as long as that takes, then go to the start pose within limits.

    Returns what the scene took to set up, seconds; raises `RobotError` where the hardware is missing.
    """
    cell.ticker.start()
    while cell.latch.is_set and cell.is_relaxed:  # nothing holds the robot, and nothing shall
        drive.wait_powerless()
    cell.connect()
    drive.start()
    _wait(cell, drive, until=lambda: not cell.latch.is_set, why="the stop is set: release it on the spot when it is safe")
    asked_s = drive.now_s
    _wait(cell, drive, until=lambda: cell.operator.prepare(plan), why="waiting for the scene to be set up")
    setup_s = drive.now_s - asked_s
    _go_to_start(cell, drive)
    drive.start_afresh()
    return setup_s


def _wait(cell: Workcell, drive: Drive, *, until: Callable[[], bool], why: str) -> None:
    is_said = False
    while not until():
        if not is_said:
            cell.say(why)
            is_said = True
        drive.idle()


def _go_to_start(cell: Workcell, drive: Drive) -> None:
    """Bring the robot to the start pose, at a part of its speed, and wait until it has followed."""
    if not cell.limits.start_pose:
        return
    goal = pose_of(cell.limits.start_pose, cell.robot.interface.action_names, otherwise=drive.position)
    span = drive.tick_limits.high - drive.tick_limits.low
    num_settling = 0
    while num_settling < SETTLE_TICKS:
        drive.approach(goal, speed=cell.limits.pose_speed)
        if (np.abs(drive.measured - goal) <= ARRIVED * span).all():
            return
        num_settling += bool(np.array_equal(drive.position, goal.astype(np.float32)))
    raise RobotError(
        f"the robot was sent to its start pose {goal.round(2).tolist()} and stands at {drive.measured.round(2).tolist()}; "
        "free it, check its calibration, or choose another start_pose in the limits"
    )
