"""The SO-101's task as an environment: joint positions in, joint targets out, in the units that LeRobot's datasets have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.conventions import asked_initial_state, env_id, official_rng
from envs.rendering import describe_backend
from envs.twin.plant import CAMERA, JOINTS, SCENE, START_RAD, So101Plant

# Shapes: J = 6 joints in the order of JOINTS.

NAMES = tuple(f"{joint}.pos" for joint in JOINTS)
UNITS = (*("deg" for _ in JOINTS[:-1]), "%")
"""The gripper's: 0 closed to 100 open."""
CONTROL_HZ = 30.0
NUM_INITIAL_STATES = 50
OFFICIAL_ENTROPY = 101_101
"""Spawned seed sequences give the official states; plain seeds below 2**128 never produce the same stream."""


FAMILY = "twin_so101"
TASKS = ("put the red cube on the blue disc",)
MAX_STEPS = 240


class JointUnits:
    """Between the plant's radians and the robot's degrees and per cent."""

    def __init__(self, ranges_rad: np.ndarray) -> None:
        low, high = ranges_rad[-1]
        self._scale_J = np.array([*(180.0 / np.pi for _ in JOINTS[:-1]), 100.0 / (high - low)])
        self._zero_J = np.array([*(0.0 for _ in JOINTS[:-1]), low])
        self.low, self.high = (self.from_rad(limits).astype(np.float32) for limits in ranges_rad.T)

    def from_rad(self, angles_J: np.ndarray) -> np.ndarray:
        return (angles_J - self._zero_J) * self._scale_J

    def to_rad(self, numbers_J: np.ndarray) -> np.ndarray:
        return np.asarray(numbers_J, np.float64) / self._scale_J + self._zero_J


class So101Env(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Put the cube on the disc; observations are ``{"images": {"front": uint8 [Y, X, 3]}, "state": float32 [6]}``.

    An action is where the servos shall go, float32 [6] in the state's units; they take their time.
    """

    num_initial_states = NUM_INITIAL_STATES
    object_names: Mapping[str, str] = {"cube": "red cube", "disc": "blue disc"}

    def __init__(
        self, *, task_id: int = 0, image_size: int = 64, placement_range: float = 0.5, max_steps: int = MAX_STEPS
    ) -> None:
        """Build the scene; `placement_range`, from 0 (cube at home) to 1 (anywhere in its region), sets the difficulty."""
        if not 0 <= task_id < len(TASKS):
            raise ValueError(f"twin/so101 has the tasks 0 to {len(TASKS) - 1}, got task_id={task_id}")
        if max_steps < 1 or not 8 <= image_size <= 2048:
            raise ValueError(f"max_steps is at least 1, image_size 8 to 2048 pixels; got {max_steps} and {image_size}")
        self.plant = So101Plant(placement_range=placement_range)
        self.units = JointUnits(self.plant.ranges_rad)
        self.prompt = TASKS[task_id]
        self.task_id = f"{FAMILY}/{task_id}"
        self.env_id = env_id(
            task=self.task_id, scene=SCENE.read_text(), image_size=image_size, placement_range=placement_range,
            max_steps=max_steps, mujoco=mujoco.__version__, opengl=describe_backend().id,
        )  # fmt: skip
        self.max_steps = max_steps
        self._image_size = image_size
        self._num_steps = 0
        self.metadata = {"render_modes": [], "render_fps": CONTROL_HZ, "interface": interface(image_size)}
        self.action_space = gymnasium.spaces.Box(self.units.low, self.units.high, dtype=np.float32)
        image = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "images": gymnasium.spaces.Dict({CAMERA: image}),
                "state": gymnasium.spaces.Box(-360.0, 360.0, (len(JOINTS),), np.float32),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; ``options={"initial_state": i}`` picks an official state, else `seed` draws the placement."""
        super().reset(seed=seed)
        index = asked_initial_state(options)
        self.plant.reset(seed=self.np_random if index is None else _official_rng(index))
        self._num_steps = 0
        return self.observe(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play one control step and render."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Play one control step without rendering: reward, terminated (success), truncated, info."""
        action = np.asarray(action, np.float64)
        if action.shape != (len(JOINTS),) or not np.isfinite(action).all():
            raise ValueError(f"an action is six finite numbers, the joints' targets in {', '.join(UNITS)}; got {action}")
        self.plant.set_goals(self.units.to_rad(action))
        self.plant.advance(1.0 / CONTROL_HZ)
        self._num_steps += 1
        is_success = self.plant.is_success()
        return float(is_success), is_success, self._num_steps >= self.max_steps, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Return the image and the joint positions in fresh arrays."""
        state = self.units.from_rad(self.plant.positions()).astype(np.float32)
        return {"images": {CAMERA: self.plant.render(CAMERA, (self._image_size, self._image_size))}, "state": state}

    def get_state(self) -> np.ndarray:
        """Return the full simulator state, float64 [N]."""
        return self.plant.get_state()

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` returned; the step counter is not part of it."""
        self.plant.set_state(state)

    def close(self) -> None:
        """Free the renderer; closing twice is allowed."""
        self.plant.close()


def interface(image_size: int) -> dict[str, Any]:
    """Return the plain interface of the arm with one camera, also that of the hardware."""
    return {
        "cameras": {CAMERA: [image_size, image_size, 3]},
        "state_names": list(NAMES),
        "state_units": list(UNITS),
        "action_names": list(NAMES),
        "action_units": list(UNITS),
        "action_space": "absolute_joint",
        "control_hz": CONTROL_HZ,
    }


def facts_of_hardware() -> dict[str, Any]:
    """Return what the emulated arm's files need: joint ranges (rad [6, 2]), start pose (rad [6]), camera, tasks."""
    plant = So101Plant()
    tasks = {f"{FAMILY}/{number}": {"prompt": prompt, "max_steps": MAX_STEPS} for number, prompt in enumerate(TASKS)}
    return {"ranges_rad": plant.ranges_rad, "start_rad": START_RAD, "camera": CAMERA, "tasks": tasks}


def _official_rng(initial_state: int) -> np.random.Generator:
    return official_rng(initial_state, count=NUM_INITIAL_STATES, entropy=OFFICIAL_ENTROPY, family="the twin")
