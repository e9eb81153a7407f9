"""Steps a LIBERO scene: lean MuJoCo stepping here, stock stepping in `envs.libero.exact`, behind one protocol."""

from __future__ import annotations

import copy
from typing import Protocol

import mujoco
import numpy as np

from envs.libero.controller import ARM_JOINTS, FINGER_JOINTS, ArmView, OperationalSpaceController
from envs.libero.placement import InitialState
from envs.libero.predicates import compile_goal
from envs.libero.scene import LoadedScene, Scene

CONTROL_HZ = 20.0


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


class LeanPhysics:
    """Plain MuJoCo stepping with the numpy controller; after each physics step the next one's first half is done.

    So poses, contacts and bias forces are always those of the current state, at no extra cost.
    """

    def __init__(self, loaded: LoadedScene, *, timestep_ms: float) -> None:
        self.scene, self.model = loaded.scene, loaded.model
        self.model.opt.timestep = timestep_ms / 1000
        # Force sensors are not read; without them MuJoCo skips a pass over all bodies.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
        self.data = mujoco.MjData(self.model)
        self._num_substeps = round(1000 / CONTROL_HZ / timestep_ms)
        self._layout = StateLayout(self.model, self.scene)
        self._controller = OperationalSpaceController(self.model, joints_at_rest=np.array(self.scene.arm_joints_at_rest))
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

    def step(self, action: np.ndarray) -> None:
        model, data, controller = self.model, self.data, self._controller
        controller.set_goal(self._view, action)
        grip = float(np.sign(action[6]))
        for _ in range(self._num_substeps):
            controller.apply(data, self._view, grip)
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)
            self._view = controller.look(data)

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
