"""The gymnasium environment of a robosuite task: the Panda under OSC_POSE at 20 Hz, robosuite's own success check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.conventions import asked_initial_state, env_id, official_rng
from envs.libero.controller import FINGER_JOINTS, GRIPPER_SITE
from envs.libero.environment import (
    ACTION_NAMES,
    ACTION_UNITS,
    CAMERAS,
    COLLISION_GEOM_GROUP,
    HAND_BODY,
    STATE_NAMES,
    STATE_UNITS,
    _axis_angle,
)
from envs.libero.physics import CONTROL_HZ
from envs.libero.placement import InitialState, draw_initial_state
from envs.libero.scene import Progress
from envs.rendering import Renderer, describe_backend
from envs.robosuite.physics import LeanPhysics
from envs.robosuite.rewards import compile_reward
from envs.robosuite.scene import load_scene
from envs.robosuite.tasks import SUITES, require_task

NUM_INITIAL_STATES = 50
OFFICIAL_ENTROPY = 20261127
"""Of the seeds of the official states; robosuite has none of its own."""
PUT_AWAY = np.array([10.0, 10.0, 10.0, 1.0, 0.0, 0.0, 0.0])
"""Where robosuite puts the objects of a scene that a task does not use."""
DOOR_PARTS = {"door": "Door_door", "handle": "Door_latch", "frame": "Door_frame"}


class RobosuiteEnv(gymnasium.Env):
    """A robosuite task with camera images and proprioception, delta end-effector actions and a sparse reward.

    Observations are ``{"images": {camera: uint8 [Y, X, 3]}, "state": float32 [8]}``: gripper position (m), hand rotation as
    axis-angle (rad), finger joints (m). Actions are float32 [7] in [-1, 1]: 0.05 m and 0.5 rad per unit, gripper −1 open,
    +1 close. The seed draws a placement as robosuite's samplers do; ``reset(options={"initial_state": i})`` takes one of fifty
    that no seed draws. An episode ends with success, which robosuite's do not.
    """

    metadata: dict[str, Any] = {"render_modes": [], "render_fps": CONTROL_HZ}  # noqa: RUF012, gymnasium declares it so

    def __init__(
        self,
        *,
        suite: str = "lift",
        task_id: int = 0,
        image_size: int = 64,
        cameras: Sequence[str] = tuple(CAMERAS),
        max_steps: int | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Open the suite's scene, building it first where the cache lacks it (about ten seconds, told to `on_progress`).

        Raises ValueError for values that do not exist, RuntimeError when no OpenGL works or the scene cannot be built.
        """
        self.task = require_task(suite, task_id)
        _require_options(image_size, cameras, max_steps)
        loaded = load_scene(suite, on_progress=on_progress)
        self.physics = LeanPhysics(loaded)
        scene = self.physics.scene
        self._reward = compile_reward(self.model, scene, self.task)
        used = [self.task.object] if self.task.object else list(scene.object_joints)
        self._put_away = [
            int(self.model.joint(joint).qposadr[0]) for name, joint in scene.object_joints.items() if name not in used
        ]
        self.prompt = self.task.prompt
        self.task_id = f"robosuite_{suite}/{task_id}"
        self.goal: Sequence[tuple[str, ...]] = self.task.goal
        parts = DOOR_PARTS if suite == "door" else {name: scene.object_bodies[name] for name in used}
        self.object_bodies: Mapping[str, str] = dict(parts)
        self.object_names: Mapping[str, str] = {key: SUITES[suite].object_names.get(key, key) for key in parts}
        self.gripper_site = GRIPPER_SITE
        self.finger_joints = FINGER_JOINTS
        self.max_steps = max_steps or self.task.max_steps
        self.num_initial_states = NUM_INITIAL_STATES
        self._image_size, self._cameras = image_size, tuple(cameras)
        self._renderer: Renderer | None = None
        self._site = self.model.site(GRIPPER_SITE).id
        self._hand = self.model.body(HAND_BODY).id
        self._finger_qpos = [int(self.model.joint(name).qposadr[0]) for name in FINGER_JOINTS]
        self._num_steps = 0
        image = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        state = gymnasium.spaces.Box(-np.inf, np.inf, (len(STATE_NAMES),), np.float32)
        images = gymnasium.spaces.Dict({name: image for name in self._cameras})
        self.observation_space = gymnasium.spaces.Dict({"images": images, "state": state})
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (len(ACTION_NAMES),), np.float32)
        self.metadata = type(self).metadata | {"interface": _interface(self._cameras, image_size)}
        self.env_id = env_id(
            task=self.task_id, image_size=image_size, cameras=self._cameras, max_steps=self.max_steps,
            mujoco=mujoco.__version__, opengl=describe_backend().id, scene=scene.content_hash,
        )  # fmt: skip

    @property
    def model(self) -> mujoco.MjModel:
        return self.physics.model

    @property
    def data(self) -> mujoco.MjData:
        return self.physics.data

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode and return the first observation; see the class for seeds and official states."""
        self.restart(seed=seed, options=options)
        return self.observe(), {"is_success": self.is_success()}

    def restart(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode without rendering."""
        super().reset(seed=seed)
        index = asked_initial_state(options)
        rng = self.np_random if index is None else _official_rng(index)
        self.physics.reset(self._draw(rng))
        self._num_steps = 0

    def _draw(self, rng: np.random.Generator) -> InitialState:
        state = draw_initial_state(self.model, self.physics.scene, rng)
        for first in self._put_away:
            state.qpos[first : first + 7] = PUT_AWAY
        return state

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance one control step and observe."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Play one control step without rendering: reward, terminated (success), truncated (step limit), info.

        Raises ValueError for an action of another shape or with values that are not finite; larger ones are clipped.
        """
        command = np.asarray(action, np.float64)
        if command.shape != (len(ACTION_NAMES),) or not np.isfinite(command).all():
            raise ValueError(f"an action is 7 finite numbers in [-1, 1], got {np.asarray(action).tolist()}")
        self.physics.step(np.clip(command, -1.0, 1.0))
        self._num_steps += 1
        is_success = self.is_success()
        return float(is_success), is_success, self._num_steps >= self.max_steps, {"is_success": is_success}

    def is_success(self) -> bool:
        """Return robosuite's own check of the present state."""
        return self._reward.is_success(self.data)

    def shaped_reward(self) -> float:
        """Return robosuite's dense reward of the present state, for experts that learn by it."""
        return self._reward.shaped(self.data)

    def observe(self) -> dict[str, Any]:
        """Render and read the state, in fresh arrays."""
        if self._renderer is None:
            self._renderer = Renderer(
                self.model,
                cameras={name: CAMERAS[name] for name in self._cameras},
                height=self._image_size,
                width=self._image_size,
                shadow_size=0,  # robosuite's lights cast no shadows
                hidden_geom_groups=(COLLISION_GEOM_GROUP,),
                shows_sites=True,
            )
        return {"images": self._renderer.render(self.data), "state": self._state()}

    def _state(self) -> np.ndarray:
        state = np.empty(len(STATE_NAMES), np.float32)
        state[:3] = self.data.site_xpos[self._site]
        state[3:6] = _axis_angle(self.data.xquat[self._hand])
        state[6:] = self.data.qpos[self._finger_qpos]
        return state

    def get_state(self) -> np.ndarray:
        """Return the full simulator state, controller and the door's place included, float64 [N]."""
        return self.physics.get_state()

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` of this task returned; the step counter is not part of it."""
        self.physics.set_state(np.asarray(state, np.float64))

    def close(self) -> None:
        """Free the renderer; closing twice is allowed."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None


def _official_rng(initial_state: int) -> np.random.Generator:
    return official_rng(initial_state, count=NUM_INITIAL_STATES, entropy=OFFICIAL_ENTROPY, family="robosuite")


def _require_options(image_size: int, cameras: Sequence[str], max_steps: int | None) -> None:
    unknown = [name for name in cameras if name not in CAMERAS]
    if unknown or not cameras:
        raise ValueError(f"cameras are some of {', '.join(CAMERAS)}, not {', '.join(map(repr, unknown)) or 'none'}")
    if not 8 <= image_size <= 2048:
        raise ValueError(f"image_size is 8 to 2048 pixels, not {image_size}")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps is at least 1, not {max_steps}")


def _interface(cameras: Sequence[str], image_size: int) -> dict[str, Any]:
    return {
        "cameras": {name: [image_size, image_size, 3] for name in cameras},
        "state_names": list(STATE_NAMES),
        "state_units": list(STATE_UNITS),
        "action_names": list(ACTION_NAMES),
        "action_units": list(ACTION_UNITS),
        "action_space": "delta_ee",
        "control_hz": CONTROL_HZ,
    }
