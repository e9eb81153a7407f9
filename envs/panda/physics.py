"""Lean stepping of a scene with the Panda: plain MuJoCo with the numpy controller, and the layout of a stored state."""

from __future__ import annotations

import mujoco
import numpy as np

from envs.panda.controller import ArmView, OperationalSpaceController
from envs.panda.scene import LoadedScene, Scene

CONTROL_HZ = 20.0


class FixtureBodies:
    """Reads and writes fixtures' poses, which live in the model and not in qpos."""

    def __init__(self, model: mujoco.MjModel, scene: Scene) -> None:
        self._model = model
        names = [scene.object_bodies[name] for name in scene.fixtures]
        self._bodies = np.array([mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) for name in names], int)

    def read(self) -> np.ndarray:
        """Return position and quaternion of each, float64 [fixtures, 7]."""
        return np.concatenate([self._model.body_pos[self._bodies], self._model.body_quat[self._bodies]], axis=1)

    def write(self, poses: np.ndarray) -> None:
        self._model.body_pos[self._bodies], self._model.body_quat[self._bodies] = poses[:, :3], poses[:, 3:]


class StateLayout:
    """Packs and unpacks the vector of `Physics.get_state`."""

    def __init__(self, model: mujoco.MjModel, scene: Scene) -> None:
        self.fixtures = FixtureBodies(model, scene)
        sizes = (1, model.nq, model.nv, model.nv, model.nu, 9, 2, 7 * len(scene.fixtures))
        self._ends = np.cumsum(sizes)

    def pack(self, data: mujoco.MjData, goal_rotation: np.ndarray, finger_command: np.ndarray) -> np.ndarray:
        parts = ([data.time], data.qpos, data.qvel, data.qacc_warmstart, data.ctrl, goal_rotation.ravel(), finger_command)
        return np.concatenate([*parts, self.fixtures.read().ravel()])

    def unpack(self, state: np.ndarray, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Write a state into `data` and the model; return goal rotation [3, 3] and finger command [2].

        Raises ValueError when the state has the wrong length, as one of another task has.
        """
        if state.shape != (self._ends[-1],):
            raise ValueError(f"a simulator state of this task has {self._ends[-1]} numbers, got the shape {state.shape}")
        time, qpos, qvel, warmstart, ctrl, rotation, fingers, fixtures = np.split(state, self._ends[:-1])
        data.time = time[0]
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:], data.ctrl[:] = qpos, qvel, warmstart, ctrl
        self.fixtures.write(fixtures.reshape(-1, 7))
        return rotation.reshape(3, 3).copy(), fingers.copy()


class LeanStepping:
    """Plain MuJoCo stepping with the numpy controller; after each physics step the next one's first half is done.

    So poses, contacts and bias forces are always those of the current state, at no extra cost. How an episode begins is
    for the subclasses.
    """

    _view: ArmView
    """Of the present state."""

    def __init__(self, loaded: LoadedScene) -> None:
        self.scene, self.model = loaded.scene, loaded.model
        # Force sensors are not read; without them MuJoCo skips a pass over all bodies.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
        self.data = mujoco.MjData(self.model)
        self._num_substeps = round(1.0 / CONTROL_HZ / self.model.opt.timestep)
        self._layout = StateLayout(self.model, self.scene)
        self._controller = OperationalSpaceController(self.model, joints_at_rest=np.array(self.scene.arm_joints_at_rest))

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
