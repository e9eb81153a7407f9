"""The gymnasium environment of a robosuite task: the Panda under OSC_POSE at 20 Hz, robosuite's own success check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from envs.conventions import asked_initial_state, env_id, official_rng
from envs.panda.environment import CAMERAS, MORE_CAMERAS, PandaEnv, require_images
from envs.panda.placement import InitialState, draw_initial_state
from envs.panda.scene import Progress
from envs.rendering import describe_backend
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


class RobosuiteEnv(PandaEnv):
    """A robosuite task with camera images and proprioception, delta end-effector actions and a sparse reward.

    Observations are ``{"images": {camera: uint8 [Y, X, 3]}, "state": float32 [8]}``: gripper position (m), hand rotation as
    axis-angle (rad), finger joints (m). Actions are float32 [7] in [-1, 1]: 0.05 m and 0.5 rad per unit, gripper −1 open,
    +1 close. The seed draws a placement as robosuite's samplers do; ``reset(options={"initial_state": i})`` takes one of fifty
    that no seed draws. An episode ends with success, which robosuite's do not.
    """

    def __init__(
        self,
        *,
        suite: str = "lift",
        task_id: int = 0,
        image_size: int = 64,
        cameras: Sequence[str] = tuple(CAMERAS),
        max_steps: int | None = None,
        perturbation: str | Sequence[str] = (),
        on_progress: Progress | None = None,
    ) -> None:
        """Open the suite's scene, building it first where the cache lacks it (about ten seconds, told to `on_progress`).

        `perturbation` is one or several of `envs.looks.LOOKS`.

        Raises ValueError for values that do not exist, RuntimeError when no OpenGL works or the scene cannot be built.
        """
        self.task = require_task(suite, task_id)
        known_cameras = CAMERAS | MORE_CAMERAS
        require_images(image_size, cameras, max_steps, known_cameras=known_cameras)
        loaded = load_scene(suite, on_progress=on_progress)
        self.physics = LeanPhysics(loaded)
        looks = [perturbation] if isinstance(perturbation, str) else list(perturbation)
        shown = {name: known_cameras[name] for name in cameras}
        super().__init__(self.physics, cameras=shown, image_size=image_size, looks=looks)
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
        self.max_steps = max_steps or self.task.max_steps
        self.num_initial_states = NUM_INITIAL_STATES
        self.env_id = env_id(
            task=self.task_id, image_size=image_size, cameras=tuple(cameras), max_steps=self.max_steps,
            mujoco=mujoco.__version__, opengl=describe_backend().id, scene=scene.content_hash,
            **({"perturbation": sorted(looks)} if looks else {}),
        )  # fmt: skip

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
        self._dress()
        self._num_steps = 0

    def _draw(self, rng: np.random.Generator) -> InitialState:
        state = draw_initial_state(self.model, self.physics.scene, rng)
        for first in self._put_away:
            state.qpos[first : first + 7] = PUT_AWAY
        return state

    def is_success(self) -> bool:
        """Return robosuite's own check of the present state."""
        return self._reward.is_success(self.data)

    def shaped_reward(self) -> float:
        """Return robosuite's dense reward of the present state, for experts that learn by it."""
        return self._reward.shaped(self.data)


def _official_rng(initial_state: int) -> np.random.Generator:
    return official_rng(initial_state, count=NUM_INITIAL_STATES, entropy=OFFICIAL_ENTROPY, family="robosuite")
