"""Steps a robosuite scene: plain MuJoCo with the numpy controller that LIBERO's lean stepping has too."""

from __future__ import annotations

import mujoco
import numpy as np

from envs.libero.controller import ARM_JOINTS, OperationalSpaceController
from envs.libero.physics import CONTROL_HZ, StateLayout
from envs.libero.placement import InitialState
from envs.libero.scene import LoadedScene

NUM_JOINTS = len(ARM_JOINTS)


class LeanPhysics:
    """After each physics step the next one's first half is done: poses, contacts and bias forces are those of the state.

    Unlike LIBERO's, robosuite's controller takes the joints of the episode's start, noise included, as its posture and the
    hand's rotation there as its first goal.
    """

    def __init__(self, loaded: LoadedScene) -> None:
        self.scene, self.model = loaded.scene, loaded.model
        # Force sensors are not read; without them MuJoCo skips a pass over all bodies.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
        self.data = mujoco.MjData(self.model)
        self._num_substeps = round(1.0 / CONTROL_HZ / self.model.opt.timestep)
        self._layout = StateLayout(self.model, self.scene)
        self._start_joints = np.array(self.scene.arm_joints_at_rest)
        self._controller = OperationalSpaceController(self.model, joints_at_rest=self._start_joints)
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

    def step(self, action: np.ndarray) -> None:
        """Play one control step of 50 ms; `action` float64 [7] within [-1, 1]."""
        model, data, controller = self.model, self.data, self._controller
        controller.set_goal(self._view, action)
        grip = float(np.sign(action[6]))
        for _ in range(self._num_substeps):
            controller.apply(data, self._view, grip)
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)
            self._view = controller.look(data)

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
