"""Steps a task with stock LIBERO and robosuite, for figures that must compare with published ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mujoco
import numpy as np

from envs.libero.manifest import require_listed
from envs.libero.stock import make_stock_env, open_stock_task
from envs.panda.physics import StateLayout
from envs.panda.placement import InitialState
from envs.panda.scene import Scene


class StockPhysics:
    """LIBERO's own environment without its renderer, driven through `envs.libero.physics.Physics`."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        task = open_stock_task(scene.suite, scene.task_id)
        require_listed(task.files)
        with _global_random_state_kept():
            self._wrapper = make_stock_env(task)
        self.stock_env = self._wrapper.env
        # A soft reset keeps the model that is drawn; `reset` below renews what a hard one would.
        self.stock_env.hard_reset = False
        self.model: mujoco.MjModel = self.stock_env.sim.model._model
        self.data: mujoco.MjData = self.stock_env.sim.data._data
        self._robot = self.stock_env.robots[0]
        self._layout = StateLayout(self.model, scene)
        self._is_success = False

    def reset(self, state: InitialState) -> None:
        with _global_random_state_kept():
            self._wrapper.reset()
        self._robot.gripper.current_action = np.zeros(2)
        self._layout.fixtures.write(state.fixture_poses)
        self._wrapper.set_init_state(np.concatenate([[0.0], state.qpos, state.qvel]))
        if not state.is_official:
            self._robot.controller.new_update = True
        self._is_success = bool(self.stock_env._check_success())

    def step(self, action: np.ndarray) -> None:
        _, _, self._is_success, _ = self._wrapper.step(action)
        self._compute_poses()

    def _compute_poses(self) -> None:
        """Bring poses and contacts, which robosuite leaves one physics step behind, to the state; the future stays the same."""
        warmstart = self.data.qacc_warmstart.copy()
        mujoco.mj_forward(self.model, self.data)
        self.data.qacc_warmstart[:] = warmstart

    def is_success(self) -> bool:
        """Return what LIBERO answered to the last step."""
        return bool(self._is_success)

    def get_state(self) -> np.ndarray:
        fingers = np.broadcast_to(self._robot.gripper.current_action, 2)
        return self._layout.pack(self.data, self._robot.controller.goal_ori, fingers)

    def set_state(self, state: np.ndarray) -> None:
        mujoco.mj_resetData(self.model, self.data)
        goal_rotation, finger_command = self._layout.unpack(state, self.data)
        self._compute_poses()
        self._robot.controller.goal_ori, self._robot.gripper.current_action = goal_rotation, finger_command
        self._robot.controller.new_update = True
        self._is_success = bool(self.stock_env._check_success())

    def close(self) -> None:
        self._wrapper.close()


@contextlib.contextmanager
def _global_random_state_kept() -> Iterator[None]:
    """LIBERO draws placements from numpy's global generator; they are replaced here, and callers must not notice."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
