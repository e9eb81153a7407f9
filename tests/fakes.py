"""Small real parts for tests: an environment, an expert, a policy and a critic in numpy, all deterministic."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from opentau.errors import RobotError
from opentau.types import ActionChunk, Interface, PolicyRequest, Reading, derive_seed

CAMERAS = ("agentview", "wrist")
REACH = 0.1
"""How far one full action moves the point."""
SUCCESS_DISTANCE = 0.05


class CountingEnv:
    """A point in the plane that has to reach a target, seen as a few pixels; obeys `StepEnv`.

    Accidents for tests: `fail_at_step` raises in that step, `hang_at_step` stops answering; with `accident_file` only
    the first process to get there has the accident.
    """

    num_initial_states = 10

    def __init__(
        self,
        *,
        task_id: int = 0,
        image_size: int = 8,
        max_steps: int = 60,
        step_s: float = 0.0,
        fail_at_step: int | None = None,
        hang_at_step: int | None = None,
        accident_file: str = "",
        action_names: Sequence[str] = ("dx", "dy"),
        fail_at_start: str = "",
    ) -> None:
        if fail_at_start:
            raise ValueError(fail_at_start)
        self.task_id = f"counting/{task_id}"
        self.prompt = f"reach target {task_id}"
        self.env_id = f"counting-v0 {image_size}px steps={max_steps}"
        self.max_steps = max_steps
        self.action_space = SimpleNamespace(low=np.full(2, -1.0, np.float32), high=np.full(2, 1.0, np.float32))
        self.metadata: dict[str, Any] = {"interface": counting_interface(image_size, tuple(action_names)).to_dict()}
        self._image_size = image_size
        self._step_s = step_s
        self._accidents = {fail_at_step: self._fail, hang_at_step: self._hang}
        self._accident_file = Path(accident_file) if accident_file else None
        self.num_observations = 0
        """How often pixels were made; for tests of what is rendered when."""
        self.reset(seed=0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        rng = np.random.default_rng(seed if not options else options["initial_state"])
        self.position = rng.uniform(-1.0, 1.0, 2)
        self.target = rng.uniform(-1.0, 1.0, 2)
        self.num_steps = 0
        return self.observe(), {"is_success": False}

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict]:
        if self.num_steps in self._accidents and self._takes_accident():
            self._accidents[self.num_steps]()
        if self._step_s:
            time.sleep(self._step_s)
        self.position = self.position + REACH * np.asarray(action, np.float64)
        self.num_steps += 1
        is_success = bool(np.linalg.norm(self.position - self.target) < SUCCESS_DISTANCE)
        return float(is_success), is_success, self.num_steps >= self.max_steps, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        self.num_observations += 1
        state = np.concatenate([self.position, self.target]).astype(np.float32)
        shade = np.uint8(127 + 60 * np.tanh(state[:3]))
        shape = (self._image_size, self._image_size, 3)
        return {"images": {camera: np.broadcast_to(shade, shape).copy() for camera in CAMERAS}, "state": state}

    def get_state(self) -> np.ndarray:
        return np.concatenate([self.position, self.target])

    def set_state(self, state: np.ndarray) -> None:
        self.position, self.target = state[:2].copy(), state[2:].copy()

    def close(self) -> None: ...

    def _takes_accident(self) -> bool:
        if self._accident_file is None:
            return True
        try:
            os.close(os.open(self._accident_file, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _fail(self) -> None:
        raise RuntimeError(f"the point broke in step {self.num_steps}")

    def _hang(self) -> None:
        while True:
            time.sleep(1.0)


def counting_interface(image_size: int = 8, action_names: tuple[str, ...] = ("dx", "dy")) -> Interface:
    return Interface(
        cameras={camera: (image_size, image_size, 3) for camera in CAMERAS},
        state_names=("x", "y", "target_x", "target_y"),
        state_units=("m",) * 4,
        action_names=action_names,
        action_units=("0.1 m",) * len(action_names),
        action_space="delta_ee",
        control_hz=20.0,
    )


def counting_env(**args: Any) -> dict[str, Any]:
    """Spec of the environment for a station."""
    return {"target": "tests.fakes:CountingEnv", "args": args}


COUNTING_EXPERT = {"target": "tests.fakes:CountingExpert", "args": {}}
SHAKY_HAND = {"target": "tests.fakes:ShakyHand", "args": {}}


class CountingExpert:
    """Moves straight to the target; sloppy demonstrations wander."""

    phase = "reach"

    def __init__(self, env: CountingEnv) -> None:
        self._env = env

    def start(self, *, seed: int, is_clean: bool) -> None:
        self._rng = np.random.default_rng(seed)
        self._wander = 0.0 if is_clean else 0.2

    def act(self) -> np.ndarray:
        aim = (self._env.target - self._env.position) / REACH
        aim = aim / max(1.0, np.abs(aim).max()) + self._wander * self._rng.standard_normal(2)
        return aim.astype(np.float32)


class TellingExpert(CountingExpert):
    """Says what it moves and where to; nears the target in two phases."""

    subject, destination, relation = "point_1", "target_1", "on"
    object_names: ClassVar = {"point_1": "point", "target_1": "target"}

    def act(self) -> np.ndarray:
        is_near = np.linalg.norm(self._env.target - self._env.position) < 0.5
        self.phase = "lower" if is_near else "carry"
        return super().act()


class ShakyHand:
    """A perturbation that adds noise to every action."""

    def start(self, *, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def apply(self, action: np.ndarray) -> np.ndarray:
        return (action + 0.1 * self._rng.standard_normal(action.shape)).astype(np.float32)


class ScriptedPolicy:
    """Aims at the target with flow noise from (episode seed, tick); a pure function of each request."""

    def __init__(
        self,
        *,
        version: str = "scripted-1",
        action_horizon: int = 12,
        noise: float = 0.3,
        speed: float = 0.5,
        bad_at_tick: int | None = None,
        interface: Interface | None = None,
    ) -> None:
        """`bad_at_tick`: from this tick on actions are NaN."""
        self.policy_version = version
        self.action_horizon = action_horizon
        self.interface = interface or counting_interface()
        self.batch_sizes: list[int] = []
        self._noise = noise
        self._speed = speed
        self._bad_at_tick = bad_at_tick

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        self.batch_sizes.append(len(requests))
        return [self._chunk(request) for request in requests]

    def _chunk(self, request: PolicyRequest) -> ActionChunk:
        rng = np.random.default_rng(derive_seed(request.episode_seed, "noise", request.tick))
        state = request.observation.state.astype(np.float64)
        aim = (state[2:] - state[:2]) / REACH / self.action_horizon
        noise = self._noise * rng.standard_normal((self.action_horizon, len(self.interface.action_names)))
        actions = (self._speed * aim + noise).astype(np.float32)
        if request.prefix is not None:
            actions[: len(request.prefix)] = request.prefix
        if self._bad_at_tick is not None and request.tick >= self._bad_at_tick:
            actions[:] = np.nan
        return ActionChunk(actions=actions, policy_version=self.policy_version)


class DistanceCritic:
    """Values a point by its distance to the target."""

    def values(self, requests: Sequence[PolicyRequest]) -> np.ndarray:
        states = np.stack([request.observation.state for request in requests])
        return -np.clip(np.linalg.norm(states[:, :2] - states[:, 2:], axis=1) / 3.0, 0.0, 1.0).astype(np.float32)


ARM_AXES = ("shoulder", "elbow", "gripper")
ARM_LIMITS: dict[str, Any] = {
    "axes": {
        "shoulder": {"low": -90, "high": 90, "velocity": 90, "acceleration": 450},
        "elbow": {"low": -90, "high": 90, "velocity": 90, "acceleration": 450},
        "gripper": {"low": 0, "high": 100, "velocity": 150, "acceleration": 900},
    },
    "safe_pose": {"shoulder": 0.0, "elbow": 0.0},
}


def arm_interface() -> Interface:
    return Interface(
        cameras={"front": (4, 4, 3)},
        state_names=ARM_AXES,
        state_units=("deg", "deg", "percent"),
        action_names=ARM_AXES,
        action_units=("deg", "deg", "percent"),
        action_space="absolute_joint",
        control_hz=30.0,
    )


class FakeArm:
    """Joints that follow their targets with a first-order lag, one step per command; obeys `Robot`.

    `fails_at` raises `RobotError` at that command, once. `commands` keeps what was sent.
    """

    robot_type = "fake_arm"

    def __init__(self, *, start: Sequence[float] = (10.0, -20.0, 50.0), lag: float = 0.5, fails_at: int | None = None) -> None:
        self.interface = arm_interface()
        self.commands: list[np.ndarray] = []
        self.num_connections = 0
        self.is_relaxed = False
        self.reading_age_s = 0.002
        self._pose = self._target = np.array(start, np.float64)
        self._lag = lag
        self._fails_at = fails_at

    def connect(self) -> None:
        self.num_connections += 1

    def read(self) -> Reading:
        return Reading(
            state=self._pose.astype(np.float32),
            state_age_s=self.reading_age_s,
            images={"front": np.full((4, 4, 3), int(self._pose[0]) + 128, np.uint8)},
            image_ages_s={"front": 0.02},
        )

    def command(self, action: np.ndarray) -> None:
        if len(self.commands) == self._fails_at:
            self._fails_at = None
            raise RobotError("motor 3 (elbow) does not answer; check its cable")
        self.commands.append(np.array(action))
        self._target = np.asarray(action, np.float64)
        self._pose = self._pose + self._lag * (self._target - self._pose)

    def hold(self) -> None:
        self._target = self._pose

    def relax(self) -> None:
        self.is_relaxed = True

    def close(self) -> None: ...
