"""A robot with whoever looks after it, as the environment of a station: `StepEnv` in real time, behind limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from opentau.errors import OptionError, RobotError
from opentau.protocols import ScriptedTeleop, Teleop
from opentau.types import EpisodePlan, Outcome, Phase, Reading, is_gripper
from robot_bridge.playing.report import Timing
from robot_bridge.workcell.cell import Workcell
from robot_bridge.workcell.limits import TickLimits, pose_of
from robot_bridge.workcell.safety import Executed, Hold, Safety

# Shapes: A action dimensions.

ARRIVED = 0.01
"""Distance, as a part of an axis's range, at which the arm has come to its start pose."""
SETTLE_TICKS = 60
"""Longest wait for the arm to follow its target to the start pose, control ticks."""
LONGEST_BRAKE_TICKS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one control tick of a robot."""

    executed: Executed
    outcome: Outcome | None
    """How the episode ended with this tick, or None; `TIMEOUT` where its time is over."""
    message: str = ""
    """Why, for an aborted one."""
    num_missed: int = 0
    """Deadlines left out while this tick was played."""


class RobotEnv:
    """One task of a robot; what it is sent goes through `Safety`, in every tick and whoever commands it.

    Time does not wait for it: each tick is played by exactly one of `play`, `hold` and `rest`, which send the command and wait
    for the next deadline. `advance` is `play` as `StepEnv` has it. There is no simulator state.
    """

    num_initial_states = 0

    def __init__(
        self,
        cell: Workcell,
        *,
        task_id: str,
        prompt: str,
        max_steps: int,
        label_wait_s: float = 0.0,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """`label_wait_s`: how long the operator has, after the last step, to say what came of an episode; else it is a
        timeout. `on_wait` is called in every tick between episodes. Raises `OptionError` where limits and robot do not fit.
        """
        interface = cell.robot.interface
        missing = sorted(set(interface.action_names) - set(interface.state_names))
        if missing:
            raise OptionError(f"the robot has no state for its actions {missing}; limits need to know where each axis is")
        self._cell = cell
        self._tick_limits = TickLimits.of(cell.limits, interface)
        self._safety = Safety(cell.limits, self._tick_limits, names=interface.action_names, latch=cell.latch)
        self._of_state = [interface.state_names.index(name) for name in interface.action_names]
        self._is_gripper = np.array([is_gripper(name) for name in interface.action_names])
        self._label_wait_s = label_wait_s
        self._on_wait = on_wait
        self._is_first_run = False
        self._policy_version = ""
        self._plan: EpisodePlan | None = None
        self.setup_s = 0.0
        """What the scene of this episode took to set up, seconds."""
        self.task_id, self.prompt, self.max_steps = task_id, prompt, max_steps
        self.limits_id = cell.limits.id
        self.env_id = f"{cell.robot.robot_type} {task_id} limits={self.limits_id[:12]}"
        self.metadata: dict[str, Any] = {"interface": interface.to_dict()}
        self.action_space = SimpleNamespace(
            low=self._tick_limits.low.astype(np.float32), high=self._tick_limits.high.astype(np.float32)
        )

    @property
    def teleop(self) -> Teleop | None:
        return self._cell.teleop

    @property
    def is_still(self) -> bool:
        """Return whether the robot is at rest."""
        return self._safety.is_still

    @property
    def stale_after_ticks(self) -> int:
        """Return how many missed deadlines in a row make plans stale: as many as damp a hold."""
        return round(self._cell.limits.damped_after_s / self._cell.ticker.period_s)

    @property
    def is_first_run(self) -> bool:
        """Return whether this episode moves at a first run's part of the limits."""
        return self._is_first_run

    @property
    def timing(self) -> Timing:
        """Return how well the loop kept its rate since the episode began."""
        return self._cell.ticker.timing()

    @property
    def position(self) -> np.ndarray:
        """Return where the robot was sent last, float32 [A]."""
        return self._safety.position

    def begin(self, plan: EpisodePlan) -> None:
        """Say which episode is about to begin, before `reset`."""
        self._plan = plan
        if isinstance(self.teleop, ScriptedTeleop):
            self.teleop.start(plan)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Wait for the operator and a released stop, as long as that takes, then go to the start pose within limits.

        Placements are the operator's: `seed` and `options` change nothing. Raises `RobotError` where the hardware is missing.
        """
        del seed, options
        plan, cell = self._require_plan(), self._cell
        self._is_first_run, self._policy_version, self._tick = False, "", 0
        cell.ticker.start()
        while cell.latch.is_set and cell.is_relaxed:  # nothing holds the robot, and nothing shall
            self._on_wait()
            self._poll_stop()
            cell.ticker.wait()
        cell.connect()
        self._read()
        self._safety.start(self._measured)
        self._wait(until=lambda: not cell.latch.is_set, why="the stop is set: release it on the spot when it is safe")
        asked_s = self._now_s
        self._wait(until=lambda: cell.operator.prepare(plan), why="waiting for the scene to be set up")
        self.setup_s = self._now_s - asked_s
        self._go_to_start()
        self._safety.start(self._safety.position)
        cell.ticker.start()
        return self.observe(), {"is_success": False}

    def observe(self) -> dict[str, Any]:
        """Return the newest observation and its age; raises `RobotError` where a sensor has been silent for too long."""
        reading = self._read()
        self._age_s = max([reading.state_age_s, *reading.image_ages_s.values()])
        if self._age_s > self._cell.limits.max_reading_age_s:
            ages = {"state": reading.state_age_s, **reading.image_ages_s}
            oldest = max(ages, key=lambda part: ages[part])
            raise RobotError(
                f"the last reading of {oldest} is {self._age_s:.2f} s old, the limit is "
                f"{self._cell.limits.max_reading_age_s:g} s; check its cable, or raise max_reading_age_s"
            )
        return {"images": dict(reading.images), "state": reading.state}

    def note_policy(self, policy_version: str) -> None:
        """Say which checkpoint acts in this episode: one that never ran on this robot moves slowly, and that is said."""
        if self._policy_version:
            return
        self._policy_version = policy_version
        if not self._cell.first_runs.has_run(policy_version):
            self._is_first_run = True
            self._safety.slow_down()
            scale = self._cell.limits.first_run_scale
            self._cell.say(f"first run of {policy_version} on this robot: it moves at {scale:g} of its limits in this episode")

    def play(self, action: np.ndarray, *, speed: float = 1.0) -> Played:
        """Play one control tick: send the robot towards `action` [A] as far as limits allow."""
        self._poll_stop()
        return self._send(self._safety.act(action, now_s=self._now_s, measured=self._measured, speed=speed))

    def hold(self) -> Played:
        """Play one control tick without a fresh action: the ladder of holds."""
        self._poll_stop()
        return self._send(self._safety.hold(now_s=self._now_s, measured=self._measured))

    def rest(self) -> Played:
        """Play one control tick at rest, as somebody wants it."""
        self._poll_stop()
        return self._send(self._safety.rest())

    def forgive_stall(self) -> None:
        """Begin the ladder anew after this process itself stood still, in which nobody could have commanded the robot."""
        self._safety.restart_timer(now_s=self._now_s)

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict]:
        """Play one control tick: reward, terminated, truncated, info with what was executed."""
        played = self.play(action)
        is_success = played.outcome is Outcome.SUCCESS
        is_truncated = played.outcome is Outcome.TIMEOUT
        info = {"is_success": is_success, "executed_action": played.executed.action}
        return float(is_success), played.outcome is not None and not is_truncated, is_truncated, info

    def columns(self, executed: Executed, phase: Phase) -> dict[str, Any]:
        """Return a frame's `ROBOT_COLUMNS`."""
        return {
            "clip_mask": executed.clips,
            "fsm_state": int(phase),
            "hold_level": int(executed.level),
            "obs_age_ms": 1000 * self._age_s,
        }

    def gap_to(self, pose: np.ndarray | None) -> float | None:
        """Return the largest distance between a device's pose [S] and the robot, as a part of each axis's range.

        Grippers are left out: squeezing one may be how a human says that they take over.
        """
        if pose is None:
            return None
        distance = np.abs(np.asarray(pose, np.float64)[self._of_state] - self._measured)
        return float((distance / (self._tick_limits.high - self._tick_limits.low))[~self._is_gripper].max(initial=0.0))

    def pose_as_action(self, pose: np.ndarray) -> np.ndarray:
        """Return the action that goes to a pose [S], float32 [A]."""
        return np.asarray(pose, np.float32)[self._of_state]

    def end(self, outcome: Outcome) -> None:
        """Come to rest after an episode, and remember that its checkpoint has run if the episode came to its end."""
        try:
            for _ in range(LONGEST_BRAKE_TICKS if self._cell.is_connected else 0):
                self._command(self._safety.rest())
                if self.is_still:
                    break
                self._cell.ticker.wait()
        except RobotError as error:
            self.lose_hardware(error)
        if self._policy_version and outcome in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.TIMEOUT):
            self._cell.first_runs.remember(self._policy_version)

    def lose_hardware(self, error: RobotError) -> None:
        """Note that the hardware failed: it is opened anew before the next episode."""
        self._cell.say(f"the robot failed: {error}")
        self.close()

    def get_state(self) -> np.ndarray:
        return np.zeros(0)

    def set_state(self, state: np.ndarray) -> None:
        raise OptionError("a robot cannot be put into a state; its operator sets the scene up")

    def close(self) -> None:
        """Let go of the robot, which holds its pose."""
        self._cell.close()

    @property
    def _now_s(self) -> float:
        return self._cell.ticker.clock.now_s()

    def _require_plan(self) -> EpisodePlan:
        if self._plan is None:
            raise RuntimeError("a robot's episode begins with begin(plan)")
        return self._plan

    def _read(self) -> Reading:
        reading = self._cell.robot.read()
        if not np.isfinite(reading.state).all():
            raise RobotError(f"the robot's state is {reading.state.tolist()}; a sensor answers with what is no number")
        self._measured = np.asarray(reading.state, np.float64)[self._of_state]
        return reading

    def _command(self, executed: Executed) -> None:
        if executed.level is Hold.STOPPED and self._cell.limits.relaxes_on_stop and self.is_still:
            self._cell.relax()
        else:
            self._cell.robot.command(executed.action)

    def _poll_stop(self) -> None:
        self._cell.latch.poll(self._cell.teleop, self._cell.operator)

    def _send(self, executed: Executed) -> Played:
        """Command the robot, wait for the next deadline and ask whether the episode is over."""
        self._command(executed)
        num_missed = self._cell.ticker.wait()
        self._tick += 1
        outcome, message = self._ending(executed)
        return Played(executed=executed, outcome=outcome, message=message, num_missed=num_missed)

    def _ending(self, executed: Executed) -> tuple[Outcome | None, str]:
        cell = self._cell
        if executed.level is Hold.STOPPED and self.is_still:
            return Outcome.ABORTED, f"stopped: {cell.latch.reason or 'by the latched stop'}"
        verdict = self._verdict()
        if verdict is None and self._tick >= self.max_steps:
            verdict = self._late_verdict()
        if verdict is not None:
            return verdict, "discarded" if verdict is Outcome.ABORTED else ""
        silence_s = self._safety.silence_s(self._now_s)
        if silence_s > cell.limits.abort_after_s:
            return Outcome.ABORTED, f"no fresh action for {silence_s:.1f} s, the limit is {cell.limits.abort_after_s:g} s"
        return None, ""

    def _verdict(self) -> Outcome | None:
        cell = self._cell
        verdict = cell.teleop.verdict() if cell.teleop is not None else None
        return verdict or cell.operator.verdict(self._require_plan(), tick=self._tick)

    def _late_verdict(self) -> Outcome:
        """Hold until somebody says how the episode ended, or nobody does in time."""
        since_s, is_said = self._now_s, False
        while self._now_s - since_s < self._label_wait_s:
            if not is_said:
                self._cell.say(f"the time is over: how did it end? {self._label_wait_s:g} s to say")
                is_said = True
            self._idle()
            if (verdict := self._verdict()) is not None:
                return verdict
        return Outcome.TIMEOUT

    def _wait(self, *, until: Callable[[], bool], why: str) -> None:
        is_said = False
        while not until():
            if not is_said:
                self._cell.say(why)
                is_said = True
            self._idle()

    def _idle(self) -> None:
        self._on_wait()
        self._poll_stop()
        self._read()
        self._command(self._safety.rest())
        self._cell.ticker.wait()

    def _go_to_start(self) -> None:
        """Bring the robot to the start pose, at a part of its speed, and wait until it has followed."""
        limits = self._cell.limits
        if not limits.start_pose:
            return
        names = self._cell.robot.interface.action_names
        goal = pose_of(limits.start_pose, names, otherwise=self._safety.position)
        span = self._tick_limits.high - self._tick_limits.low
        num_settling = 0
        while num_settling < SETTLE_TICKS:
            self._on_wait()
            self._poll_stop()
            self._read()
            self._command(self._safety.act(goal, now_s=self._now_s, measured=self._measured, speed=limits.pose_speed))
            self._cell.ticker.wait()
            if (np.abs(self._measured - goal) <= ARRIVED * span).all():
                return
            num_settling += bool(np.array_equal(self._safety.position, goal.astype(np.float32)))
        raise RobotError(
            f"the robot was sent to its start pose {goal.round(2).tolist()} and stands at {self._measured.round(2).tolist()}; "
            "free it, check its calibration, or choose another start_pose in the limits"
        )
