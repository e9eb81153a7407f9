"""One demonstration: a human's device moves a robot at a fixed rate while what it sees and does is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from opentau.protocols import Robot, Teleop
from opentau.types import Episode, Outcome, Reading, Source
from robot_bridge.workcell.limits import TickLimits
from robot_bridge.workcell.safety import Motion, limited

ARRIVED = 0.02
"""Distance to the device's pose, as a part of the widest axis, at which an approach is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A recorded demonstration, and how well its rate was held."""

    episode: Episode
    num_late_ticks: int
    """Control steps that began over half a step late."""
    max_image_age_s: float


def approach(robot: Robot, teleop: Teleop, *, limits: TickLimits, speed: float = 0.3, timeout_s: float = 20.0) -> Motion:
    """Bring a robot to where the human's device is, at that part of its velocity limits; returns its motion then.

    A device without a pose of its own leaves the robot where it is.
    """
    step_s, motion = 1 / robot.interface.control_hz, Motion.at_rest(robot.read().state)
    deadline = time.monotonic() + timeout_s
    while (pose := teleop.pose()) is not None and time.monotonic() < deadline:
        motion, _ = limited(limits, motion, pose, speed=speed)
        robot.command(motion.position)
        if np.abs(motion.position - np.clip(pose, limits.low, limits.high)).max() <= ARRIVED * (limits.high - limits.low).max():
            break
        time.sleep(step_s)
    return motion


def demonstrate(
    robot: Robot,
    teleop: Teleop,
    *,
    verdict: Callable[[], Outcome | None],
    prompt: str,
    task_id: str,
    index: int,
    max_seconds: float,
    limits: TickLimits,
    motion: Motion | None = None,
) -> Demonstration:
    """Record one episode until `verdict` says how it ended, or the device does, or the time is over (a timeout).

    What the device asks for is kept within the limits; `motion` is how the robot moves already. Afterwards it holds its
    pose. A robot that fails raises `RobotError`, and nothing is returned.
    """
    readings, actions = [], []
    step_s, num_late_ticks, outcome = 1 / robot.interface.control_hz, 0, None
    num_steps = round(max_seconds / step_s)
    started, motion = time.monotonic(), motion or Motion.at_rest(robot.read().state)
    for tick in range(num_steps):
        wait_s = started + tick * step_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        num_late_ticks += wait_s < -step_s / 2
        reading = robot.read()
        motion, _ = limited(limits, motion, teleop.act(reading.state))
        robot.command(motion.position)
        readings.append(reading)
        actions.append(motion.position)
        outcome = verdict() or teleop.verdict()
        if outcome is not None:
            break
    robot.hold()
    return Demonstration(
        episode=_episode(
            readings, actions, outcome=outcome or Outcome.TIMEOUT, prompt=prompt, task_id=task_id, index=index, robot=robot
        ),
        num_late_ticks=num_late_ticks,
        max_image_age_s=max((age for reading in readings for age in reading.image_ages_s.values()), default=0.0),
    )


def _episode(
    readings: list[Reading],
    actions: list[np.ndarray],
    *,
    outcome: Outcome,
    prompt: str,
    task_id: str,
    index: int,
    robot: Robot,
) -> Episode:
    length, action = len(actions), np.stack(actions)
    reward = np.zeros(length, np.float32)
    reward[-1] = outcome is Outcome.SUCCESS
    return Episode(
        images={name: np.stack([reading.images[name] for reading in readings]) for name in robot.interface.cameras},
        state=np.stack([reading.state for reading in readings]),
        action=action,
        policy_action=np.full_like(action, np.nan),
        executed_action=action.copy(),
        source=np.full(length, Source.DEMONSTRATION, np.int8),
        reward=reward,
        value=np.full(length, np.nan, np.float32),
        sim_state=np.zeros((length, 0)),
        prompt=prompt,
        task_id=task_id,
        outcome=outcome,
        seed=index,
        episode_id=f"demonstrations/{index:06d}",
        env_id=robot.robot_type,
        policy_version="",
    )
