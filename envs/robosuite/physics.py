"""Steps a robosuite scene with the lean stepping that LIBERO has too."""

from __future__ import annotations

import mujoco
import numpy as np

from envs.panda.controller import ARM_JOINTS, OperationalSpaceController
from envs.panda.physics import LeanStepping
from envs.panda.placement import InitialState
from envs.panda.scene import LoadedScene

NUM_JOINTS = len(ARM_JOINTS)


class LeanPhysics(LeanStepping):
    """Lean stepping that begins episodes as robosuite does.

    Unlike LIBERO's, robosuite's controller takes the joints of the episode's start, noise included, as its posture and the
    hand's rotation there as its first goal.
    """

    def __init__(self, loaded: LoadedScene) -> None:
        super().__init__(loaded)
        self._start_joints = np.array(self.scene.arm_joints_at_rest)
        self._view = self._controller.look(self.data)

    def reset(self, state: InitialState) -> None:
        """Begin an episode; nothing of the last one remains."""
        mujoco.mj_resetData(self.model, self.data)
        self._layout.fixtures.write(state.fixture_poses)
        self.data.qpos[:], self.data.qvel[:] = state.qpos, state.qvel
        mujoco.mj_step1(self.model, self.data)
        start = np.array([self.data.joint(name).qpos[0] for name in ARM_JOINTS])
        self._control_from(start)
        self._controller.reset(goal_rotation=self._view.rotation)

    def get_state(self) -> np.ndarray:
        """Return everything that the future depends on, float64 [N]: MuJoCo's, the controller's, fixtures' poses."""
        own = self._layout.pack(self.data, self._controller.goal_rotation, self._controller.finger_command)
        return np.concatenate([self._start_joints, own])

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` of this task returned; raises ValueError for a state of another length."""
        mujoco.mj_resetData(self.model, self.data)
        goal_rotation, finger_command = self._layout.unpack(state[NUM_JOINTS:], self.data)
        mujoco.mj_step1(self.model, self.data)
        self._control_from(state[:NUM_JOINTS])
        self._controller.reset(goal_rotation=goal_rotation, finger_command=finger_command)

    def _control_from(self, joints: np.ndarray) -> None:
        self._start_joints = np.array(joints)
        self._controller = OperationalSpaceController(self.model, joints_at_rest=self._start_joints)
        self._view = self._controller.look(self.data)
