"""A robot with whoever looks after it, as the environment of a station: `StepEnv` in real time, behind limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from opentau.errors import OptionError, RobotError
from opentau.protocols import ScriptedTeleop, Teleop
from opentau.types import EpisodePlan, Outcome
from robot_bridge.playing.report import Timing
from robot_bridge.workcell.beginning import begin_episode
from robot_bridge.workcell.cell import Workcell
from robot_bridge.workcell.drive import Drive, Sent
from robot_bridge.workcell.ending import Ending
from robot_bridge.workcell.safety import Executed

# Shapes: A action dimensions.


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
    """One task of a robot: its episodes begin with the operator, and go on tick by tick until somebody or something ends them.

    Each tick is played by exactly one of `play`, `hold` and `rest`, which return at the next deadline. `advance` is `play` as
    `StepEnv` has it. There is no simulator state.
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
        """`label_wait_s`: `Ending.label_wait_s`. `on_wait` is called in every tick between episodes.

        Raises `OptionError` where limits and robot do not fit.
        """
        self._cell = cell
        self.drive = Drive(cell, on_wait=on_wait)
        """The robot's motion; between episodes and beside `play`, `hold` and `rest` for looking at only."""
        self._ending = Ending(cell=cell, drive=self.drive, max_steps=max_steps, label_wait_s=label_wait_s)
        self._plan: EpisodePlan | None = None
        self._policy_version = ""
        self.is_first_run = False
        """Whether this episode moves at a first run's part of the limits."""
        self.setup_s = 0.0
        """What the scene of this episode took to set up, seconds."""
        self.task_id, self.prompt, self.max_steps = task_id, prompt, max_steps
        self.limits_id = cell.limits.id
        self.env_id = f"{cell.robot.robot_type} {task_id} limits={self.limits_id[:12]}"
        self.metadata: dict[str, Any] = {"interface": cell.robot.interface.to_dict()}
        within = self.drive.tick_limits
        self.action_space = SimpleNamespace(low=within.low.astype(np.float32), high=within.high.astype(np.float32))

    @property
    def teleop(self) -> Teleop | None:
        return self._cell.teleop

    @property
    def timing(self) -> Timing:
        """Return how well the loop kept its rate since the episode began."""
        return self._cell.ticker.timing()

    def begin(self, plan: EpisodePlan) -> None:
        """Say which episode is about to begin, before `reset`."""
        self._plan = plan
        if isinstance(self.teleop, ScriptedTeleop):
            self.teleop.start(plan)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Wait until the episode can begin, as long as that takes, and bring the robot to where it begins.

        Placements are the operator's: `seed` and `options` change nothing. Raises `RobotError` where the hardware is missing.
        """
        del seed, options
        self.is_first_run, self._policy_version, self._num_steps = False, "", 0
        self.setup_s = begin_episode(self._cell, self.drive, self._require_plan())
        return self.observe(), {"is_success": False}

    def observe(self) -> dict[str, Any]:
        """Return the newest observation; raises `RobotError` where a sensor has been silent for too long."""
        return self.drive.observe()

    def note_policy(self, policy_version: str) -> None:
        """Say which checkpoint acts in this episode: one that never ran on this robot moves slowly, and that is said."""
        if self._policy_version:
            return
        self._policy_version = policy_version
        if not self._cell.first_runs.has_run(policy_version):
            self.is_first_run = True
            self.drive.slow_down()
            scale = self._cell.limits.first_run_scale
            self._cell.say(f"first run of {policy_version} on this robot: it moves at {scale:g} of its limits in this episode")

    def play(self, action: np.ndarray, *, speed: float = 1.0) -> Played:
        """Play one control tick: send the robot towards `action` [A] as far as limits allow."""
        return self._played(self.drive.act(action, speed=speed))

    def hold(self) -> Played:
        """Play one control tick without a fresh action: the ladder of holds."""
        return self._played(self.drive.hold())

    def rest(self) -> Played:
        """Play one control tick at rest, as somebody wants it."""
        return self._played(self.drive.rest())

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict]:
        """Play one control tick: reward, terminated, truncated, info with what was executed."""
        played = self.play(action)
        is_success = played.outcome is Outcome.SUCCESS
        is_truncated = played.outcome is Outcome.TIMEOUT
        info = {"is_success": is_success, "executed_action": played.executed.action}
        return float(is_success), played.outcome is not None and not is_truncated, is_truncated, info

    def end(self, outcome: Outcome) -> None:
        """Come to rest after an episode, and remember that its checkpoint has run if the episode came to its end."""
        try:
            if self._cell.is_connected:
                self.drive.brake()
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

    def _played(self, sent: Sent) -> Played:
        self._num_steps += 1
        outcome, message = self._ending.after(sent.executed, plan=self._require_plan(), num_steps=self._num_steps)
        return Played(executed=sent.executed, outcome=outcome, message=message, num_missed=sent.num_missed)

    def _require_plan(self) -> EpisodePlan:
        if self._plan is None:
            raise RuntimeError("a robot's episode begins with begin(plan)")
        return self._plan
