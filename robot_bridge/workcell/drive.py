"""A robot in motion: read, sent what safety makes of a wish, and left alone until the next deadline of its rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from opentau.errors import OptionError, RobotError
from opentau.types import Phase, Reading, is_gripper
from robot_bridge.workcell.cell import Workcell
from robot_bridge.workcell.limits import TickLimits
from robot_bridge.workcell.safety import Executed, Hold, Safety

# Shapes: A action dimensions, S state dimensions.

LONGEST_BRAKE_TICKS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a robot was sent in one control tick."""

    executed: Executed
    num_missed: int
    """Deadlines left out while this tick was played."""


class Drive:
    """Moves a robot; every command goes through `Safety`, whoever gives it.

    Time does not wait: each control tick is exactly one call of `act`, `hold`, `rest` or `idle`, which sends a command and
    returns at the next deadline.
    """

    def __init__(self, cell: Workcell, *, on_wait: Callable[[], None]) -> None:
        """`on_wait` is called in every tick between episodes; raises `OptionError` where limits and robot do not fit."""
        interface = cell.robot.interface
        missing = sorted(set(interface.action_names) - set(interface.state_names))
        if missing:
            raise OptionError(f"the robot has no state for its actions {missing}; limits need to know where each axis is")
        self._cell = cell
        self._on_wait = on_wait
        self.tick_limits = TickLimits.of(cell.limits, interface)
        self._safety = Safety(cell.limits, self.tick_limits, names=interface.action_names, latch=cell.latch)
        self._of_state = [interface.state_names.index(name) for name in interface.action_names]
        self._is_gripper = np.array([is_gripper(name) for name in interface.action_names])
        self._age_s = 0.0
        self.measured = np.zeros(len(interface.action_names))
        """Where each axis was when it was read last, float64 [A]."""
        self.hold_level = Hold.NONE
        """How the robot held in its last tick."""

    @property
    def now_s(self) -> float:
        return self._cell.ticker.clock.now_s()

    @property
    def is_still(self) -> bool:
        """Return whether the robot is at rest."""
        return self._safety.is_still

    @property
    def position(self) -> np.ndarray:
        """Return where the robot was sent last, float32 [A]."""
        return self._safety.position

    @property
    def silence_s(self) -> float:
        """Return how long nobody has commanded the robot, seconds."""
        return self._safety.silence_s(self.now_s)

    @property
    def stale_after_ticks(self) -> int:
        """Return how many missed deadlines in a row make plans stale: as many as damp a hold."""
        return round(self._cell.limits.damped_after_s / self._cell.ticker.period_s)

    def start(self) -> None:
        """Begin from where the robot is, at rest."""
        self.read()
        self._safety.start(self.measured)

    def start_afresh(self) -> None:
        """Begin from where the robot was sent last, with its full limits and a ladder of holds and a grid of deadlines anew."""
        self._safety.start(self._safety.position)
        self._cell.ticker.start()

    def slow_down(self) -> None:
        """From the next standstill on move at a first run's part of the limits."""
        self._safety.slow_down()

    def forgive_stall(self) -> None:
        """Begin the ladder anew after this process itself stood still, in which nobody could have commanded the robot."""
        self._safety.restart_timer(now_s=self.now_s)

    def read(self) -> Reading:
        """Return the newest reading; raises `RobotError` for a state that is no number."""
        reading = self._cell.robot.read()
        if not np.isfinite(reading.state).all():
            raise RobotError(f"the robot's state is {reading.state.tolist()}; a sensor answers with what is no number")
        self.measured = np.asarray(reading.state, np.float64)[self._of_state]
        return reading

    def observe(self) -> dict[str, Any]:
        """Return the newest observation; raises `RobotError` where a sensor has been silent for too long."""
        reading, limit_s = self.read(), self._cell.limits.max_reading_age_s
        ages = {"state": reading.state_age_s, **reading.image_ages_s}
        oldest = max(ages, key=lambda part: ages[part])
        self._age_s = ages[oldest]
        if self._age_s > limit_s:
            raise RobotError(
                f"the last reading of {oldest} is {self._age_s:.2f} s old, the limit is {limit_s:g} s; check its cable, or "
                "raise max_reading_age_s"
            )
        return {"images": dict(reading.images), "state": reading.state}

    def act(self, action: np.ndarray, *, speed: float = 1.0) -> Sent:
        """Send the robot towards `action` [A] as far as limits allow, at that part of its velocities."""
        self.poll_stop()
        return self._send(self._safety.act(action, now_s=self.now_s, measured=self.measured, speed=speed))

    def hold(self) -> Sent:
        """Do without a fresh action: the ladder of holds."""
        self.poll_stop()
        return self._send(self._safety.hold(now_s=self.now_s, measured=self.measured))

    def rest(self) -> Sent:
        """Come to rest, as somebody wants it."""
        self.poll_stop()
        return self._send(self._safety.rest())

    def idle(self) -> None:
        """Rest between episodes, while the world is told that we live."""
        self._on_wait()
        self.poll_stop()
        self.read()
        self._send(self._safety.rest())

    def approach(self, goal: np.ndarray, *, speed: float) -> None:
        """Go towards a pose [A] between episodes."""
        self._on_wait()
        self.poll_stop()
        self.read()
        self._send(self._safety.act(goal, now_s=self.now_s, measured=self.measured, speed=speed))

    def wait_powerless(self) -> None:
        """Let a tick pass without a command: the actuators are off."""
        self._on_wait()
        self.poll_stop()
        self._cell.ticker.wait()

    def brake(self) -> None:
        """Come to rest, however many ticks that takes."""
        for _ in range(LONGEST_BRAKE_TICKS):
            self._command(self._safety.rest())
            if self.is_still:
                break
            self._cell.ticker.wait()

    def poll_stop(self) -> None:
        """Ask whoever has a stop button."""
        self._cell.latch.poll(self._cell.teleop, self._cell.operator)

    def gap_to(self, pose: np.ndarray | None) -> float | None:
        """Return the largest distance between a device's pose [S] and the robot, as a part of each axis's range.

        Grippers are left out: squeezing one may be how a human says that they take over.
        """
        if pose is None:
            return None
        distance = np.abs(np.asarray(pose, np.float64)[self._of_state] - self.measured)
        return float((distance / (self.tick_limits.high - self.tick_limits.low))[~self._is_gripper].max(initial=0.0))

    def pose_as_action(self, pose: np.ndarray) -> np.ndarray:
        """Return the action that goes to a pose [S], float32 [A]."""
        return np.asarray(pose, np.float32)[self._of_state]

    def columns(self, executed: Executed, phase: Phase) -> dict[str, Any]:
        """Return a frame's `ROBOT_COLUMNS`."""
        return {
            "clip_mask": executed.clips,
            "fsm_state": int(phase),
            "hold_level": int(executed.level),
            "obs_age_ms": 1000 * self._age_s,
        }

    def _send(self, executed: Executed) -> Sent:
        self._command(executed)
        return Sent(executed=executed, num_missed=self._cell.ticker.wait())

    def _command(self, executed: Executed) -> None:
        self.hold_level = executed.level
        if executed.level is Hold.STOPPED and self._cell.limits.relaxes_on_stop and self.is_still:
            self._cell.relax()
        else:
            self._cell.robot.command(executed.action)
