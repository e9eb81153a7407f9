"""What a learned expert sees of any scene: the hand, the objects and their joints, as one vector of numbers."""

from __future__ import annotations

import mujoco
import numpy as np

from envs.experts.shapes import subtree
from envs.experts.surroundings import PrivilegedEnv

METRES, RADIANS, FINGER_METRES, SPEED, FLAG = 0.03, 0.3, 0.01, 0.2, 0.5
"""Least scale of a kind of number: what varies less while an expert's scales are measured is not blown up beyond it."""
ONE_JOINT = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)


class PrivilegedState:
    """Reads the state of an environment's data: numbers in m, rad, m/s, rad/s, rotations as two columns of their matrix.

    The hand gives its position, rotation, speed and fingers; every object its position, the same from the hand, rotation,
    speed, which fingers touch it, and position and speed of every hinge or slide below it.
    """

    def __init__(self, env: PrivilegedEnv) -> None:
        model = self._model = env.model
        self._data = env.data
        self._site = model.site(env.gripper_site).id
        fingers = [model.joint(name) for name in env.finger_joints]
        self._finger_qpos = [int(joint.qposadr[0]) for joint in fingers]
        self._finger_dofs = [int(joint.dofadr[0]) for joint in fingers]
        self._finger_geoms = [_geoms(model, int(model.jnt_bodyid[joint.id])) for joint in fingers]
        self._bodies = {name: int(model.body(body).id) for name, body in env.object_bodies.items()}
        self._object_geoms = {name: _geoms(model, body) for name, body in self._bodies.items()}
        self._joints = {name: _joints_of(model, body) for name, body in self._bodies.items()}
        named = self._named()
        self.names: tuple[str, ...] = tuple(f"{name}.{i}" for name, values, _ in named for i in range(len(values)))
        """Of the numbers, for example 'cube from hand.2'."""
        self.least_scale = np.array([scale for _, values, scale in named for _ in values], np.float32)
        """[P], how much a number changes when it changes a little."""

    def read(self) -> np.ndarray:
        """Return the state now, float32 [P]."""
        return np.concatenate([values for _, values, _ in self._named()]).astype(np.float32)

    def _named(self) -> list[tuple[str, np.ndarray, float]]:
        model, data = self._model, self._data
        position = data.site_xpos[self._site]
        found = [
            ("hand", position, METRES),
            ("hand rotation", data.site_xmat[self._site].reshape(3, 3)[:, :2].ravel(), RADIANS),
            ("hand speed", _speed(model, data, mujoco.mjtObj.mjOBJ_SITE, self._site), SPEED),
            ("fingers", data.qpos[self._finger_qpos], FINGER_METRES),
            ("finger speeds", data.qvel[self._finger_dofs], SPEED),
        ]
        pairs = data.contact.geom[: data.ncon].reshape(-1, 2)
        for name, body in self._bodies.items():
            geoms, joints = self._object_geoms[name], self._joints[name]
            touches = [_are_touching(pairs, geoms, finger) for finger in self._finger_geoms]
            found += [
                (name, data.xpos[body], METRES),
                (f"{name} from hand", data.xpos[body] - position, METRES),
                (f"{name} rotation", data.xmat[body].reshape(3, 3)[:, :2].ravel(), RADIANS),
                (f"{name} speed", _speed(model, data, mujoco.mjtObj.mjOBJ_XBODY, body), SPEED),
                (f"{name} touched", np.array(touches, float), FLAG),
                (f"{name} joints", data.qpos[[qpos for qpos, _ in joints]], RADIANS),
                (f"{name} joint speeds", data.qvel[[dof for _, dof in joints]], SPEED),
            ]
        return found


def _geoms(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Return which geoms belong to a body and everything below it, bool [geoms]."""
    return np.isin(model.geom_bodyid, subtree(model, body))


def _joints_of(model: mujoco.MjModel, body: int) -> list[tuple[int, int]]:
    """Return (address in qpos, address in qvel) of the hinges and slides of a body alone."""
    joints = np.flatnonzero((model.jnt_bodyid == body) & np.isin(model.jnt_type, ONE_JOINT))
    return [(int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])) for joint in joints]


def _speed(model: mujoco.MjModel, data: mujoco.MjData, kind: mujoco.mjtObj, index: int) -> np.ndarray:
    """Return the linear velocity in the world, [3]."""
    velocity = np.empty(6)
    mujoco.mj_objectVelocity(model, data, kind, index, velocity, 0)
    return velocity[3:]


def _are_touching(pairs: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> bool:
    one, other = pairs.T
    return bool(((ours[one] & theirs[other]) | (ours[other] & theirs[one])).any())
