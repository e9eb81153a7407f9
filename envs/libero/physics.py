"""Steps a LIBERO scene: lean MuJoCo stepping here, stock stepping in `envs.libero.exact`, behind one protocol."""

from __future__ import annotations

import copy
from typing import Protocol

import mujoco
import numpy as np

from envs.libero.predicates import compile_goal
from envs.panda.controller import ARM_JOINTS, FINGER_JOINTS, ArmView
from envs.panda.physics import LeanStepping
from envs.panda.placement import InitialState
from envs.panda.scene import LoadedScene, Scene


class Physics(Protocol):
    """A simulated scene with its controller; between calls all derived quantities in `data` belong to its state."""

    scene: Scene
    model: mujoco.MjModel
    data: mujoco.MjData

    def reset(self, state: InitialState) -> None:
        """Begin an episode; nothing of the last one remains."""
        ...

    def step(self, action: np.ndarray) -> None:
        """Play one control step of 50 ms; `action` float64 [7] within [-1, 1]."""
        ...

    def is_success(self) -> bool: ...

    def get_state(self) -> np.ndarray:
        """Return everything that the future depends on, float64 [N]; the layout is the same for both steppings."""
        ...

    def set_state(self, state: np.ndarray) -> None: ...

    def close(self) -> None: ...


class LeanPhysics(LeanStepping):
    """Lean stepping that begins episodes and judges them as LIBERO does."""

    def __init__(self, loaded: LoadedScene, *, timestep_ms: float) -> None:
        loaded.model.opt.timestep = timestep_ms / 1000
        super().__init__(loaded)
        self._goal = compile_goal(self.model, self.scene)
        self._arm_at_rest = self._look_at_rest()
        self._view = self._arm_at_rest

    def _look_at_rest(self) -> ArmView:
        for joints, angles in (
            (ARM_JOINTS, self.scene.arm_joints_at_rest),
            (FINGER_JOINTS, self.scene.gripper_joints_at_rest),
        ):
            for name, angle in zip(joints, angles, strict=True):
                self.data.joint(name).qpos[0] = angle
        mujoco.mj_step1(self.model, self.data)
        return copy.deepcopy(self._controller.look(self.data))

    def reset(self, state: InitialState) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self._layout.fixtures.write(state.fixture_poses)
        self.data.qpos[:], self.data.qvel[:] = state.qpos, state.qvel
        # robosuite's goal rotation is that of the arm at rest until an action turns the hand.
        self._controller.reset(goal_rotation=self._arm_at_rest.rotation)
        mujoco.mj_step1(self.model, self.data)
        # Stock LIBERO puts official states under a controller that still sees the arm at rest, for one physics step.
        self._view = self._arm_at_rest if state.is_official else self._controller.look(self.data)

    def is_success(self) -> bool:
        return self._goal(self.data)

    def get_state(self) -> np.ndarray:
        return self._layout.pack(self.data, self._controller.goal_rotation, self._controller.finger_command)

    def set_state(self, state: np.ndarray) -> None:
        mujoco.mj_resetData(self.model, self.data)
        goal_rotation, finger_command = self._layout.unpack(state, self.data)
        self._controller.reset(goal_rotation=goal_rotation, finger_command=finger_command)
        mujoco.mj_step1(self.model, self.data)
        self._view = self._controller.look(self.data)

    def close(self) -> None:
        pass
