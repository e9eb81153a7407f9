"""One demonstration: a human's device moves a robot at a fixed rate while what it sees and does is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from opentau.protocols import Robot, Teleop
from opentau.types import Episode, Outcome, Reading, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A recorded demonstration, and how well its rate was held."""

    episode: Episode
    num_late_ticks: int
    """Control steps that began over half a step late."""
    max_image_age_s: float


def approach(robot: Robot, teleop: Teleop, *, max_speed: float, timeout_s: float = 20.0) -> None:
    """Bring a robot to where the human's device is, no faster than `max_speed` units per second.

    A device without a pose of its own leaves the robot where it is.
    """
    step_s, target = 1 / robot.interface.control_hz, robot.read().state
    deadline = time.monotonic() + timeout_s
    while (pose := teleop.pose()) is not None and time.monotonic() < deadline:
        target = limited(pose, previous=target, max_step=max_speed * step_s)
        robot.command(target)
        if np.array_equal(target, pose):
            return
        time.sleep(step_s)


def limited(action: np.ndarray, *, previous: np.ndarray, max_step: float) -> np.ndarray:
    """Return the action with no dimension further than `max_step` from the previous one, float32 [A]."""
    return np.clip(action, previous - max_step, previous + max_step).astype(np.float32)


def demonstrate(
    robot: Robot,
    teleop: Teleop,
    *,
    verdict: Callable[[], Outcome | None],
    prompt: str,
    task_id: str,
    index: int,
    max_seconds: float,
    max_speed: float,
) -> Demonstration:
    """Record one episode until `verdict` says how it ended, or the device does, or the time is over (a timeout).

    The robot holds its pose afterwards. A robot that fails raises `RobotError`, and nothing is returned.
    """
    readings, actions = [], []
    step_s, num_late_ticks, outcome = 1 / robot.interface.control_hz, 0, None
    num_steps = round(max_seconds / step_s)
    started, previous = time.monotonic(), robot.read().state
    for tick in range(num_steps):
        wait_s = started + tick * step_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        num_late_ticks += wait_s < -step_s / 2
        reading = robot.read()
        action = limited(teleop.act(reading.state), previous=previous, max_step=max_speed * step_s)
        robot.command(action)
        previous = action
        readings.append(reading)
        actions.append(action)
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
