"""The hand as an expert sees it: where the grip is, what the fingers feel, and which action brings it closer to a pose."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.experts.shapes import Shape, subtree

OPEN, CLOSE = -1.0, 1.0

HOME_CLOSING_AXIS, HOME_APPROACH_AXIS = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, -1.0])
"""Axis of the first finger and view of the hand in the world at yaw zero: how robot and tabletop hand start, looking down."""
GAIN_PER_M, GAIN_PER_RAD = 25.0, 3.0
"""Action per error; a full action asks for 0.05 m or 0.5 rad, of which about 60 % happen within the step."""


class Hand:
    """A two-finger gripper on delta end-effector actions [x, y, z, ax, ay, az, gripper]."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, *, site: str, finger_joints: Sequence[str]) -> None:
        self._data = data
        self._model = model
        self._site = model.site(site).id
        joints = [model.joint(name) for name in finger_joints]
        self._qpos = [joint.qposadr[0] for joint in joints]
        self._dofs = [joint.dofadr[0] for joint in joints]
        fingers = [subtree(model, int(model.jnt_bodyid[joint.id])) for joint in joints]
        self._finger_geoms = [np.flatnonzero(np.isin(model.geom_bodyid, bodies)) for bodies in fingers]
        closing, approach = self.rotation.T @ data.xaxis[joints[0].id], np.array([0.0, 0.0, 1.0])
        self._local = _frame(closing, approach)
        self._home = _frame(HOME_CLOSING_AXIS, HOME_APPROACH_AXIS) @ self._local.T
        """Rotation of the grip site at yaw zero."""

    @property
    def position(self) -> np.ndarray:
        """Of the grip site in the world, m, [3]."""
        return self._data.site_xpos[self._site].copy()

    @property
    def rotation(self) -> np.ndarray:
        return self._data.site_xmat[self._site].reshape(3, 3)

    @property
    def opening_m(self) -> float:
        """Distance between the fingers."""
        return float(np.abs(self._data.qpos[self._qpos]).sum())

    @property
    def finger_speed(self) -> float:
        """Of the faster finger, m/s."""
        return float(np.abs(self._data.qvel[self._dofs]).max())

    def num_touching(self, shape: Shape) -> int:
        """Return how many of the two fingers touch the object."""
        pairs = self._data.contact.geom
        is_object = np.isin(pairs, shape.geoms).any(axis=1)
        return sum(bool((is_object & np.isin(pairs, geoms).any(axis=1)).any()) for geoms in self._finger_geoms)

    def distance_m(self, position: np.ndarray) -> float:
        return float(np.linalg.norm(position - self.position))

    def angle_rad(self, yaw: float, *, lean: float = 0.0) -> float:
        """Return how far the hand is turned away from looking straight down at this yaw, or from leaning so far there."""
        return float(np.linalg.norm(self._turn_to(yaw, lean)))

    def towards(
        self,
        position: np.ndarray,
        *,
        yaw: float | None,
        gripper: float,
        lean: float = 0.0,
        speed: float = 1.0,
        rotation: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the action, float32 [7], that moves the grip to a pose; `speed` caps each element of the translation.

        The hand looks straight down at a yaw, or leans there to the fingers' broad side (`lean`, rad), or is turned to a
        rotation [3, 3] of `facing`, or stays turned as it is.
        """
        move = np.clip(GAIN_PER_M * (position - self.position), -speed, speed)
        if rotation is not None:
            turn = GAIN_PER_RAD * self._turn_into(rotation)
        else:
            turn = np.zeros(3) if yaw is None else GAIN_PER_RAD * self._turn_to(yaw, lean)
        turn *= min(1.0, 1.0 / max(np.abs(turn).max(), 1e-9))
        return np.array([*move, *turn, gripper], np.float32)

    def facing(self, approach: np.ndarray, closing: np.ndarray) -> np.ndarray:
        """Return the rotation [3, 3] of the grip in which the hand looks along one unit vector and closes along another.

        Of the two ways to do so, the one that is nearer to how the hand starts.
        """
        both = [_frame(sign * closing, approach) @ self._local.T for sign in (1.0, -1.0)]
        return max(both, key=lambda rotation: float(np.trace(rotation @ self._home.T)))

    def angle_to(self, rotation: np.ndarray) -> float:
        """Return how far the hand is turned away from a rotation, rad."""
        return float(np.linalg.norm(self._turn_into(rotation)))

    def _turn_to(self, yaw: float, lean: float) -> np.ndarray:
        """Rotation vector in the world from the present rotation to straight down at this yaw, or to leaning so far there."""
        cosine, sine = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        if lean:
            cosine, sine = np.cos(lean), np.sin(lean)
            turn = turn @ np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        return self._turn_into(turn @ self._home)

    def _turn_into(self, wanted: np.ndarray) -> np.ndarray:
        quaternion, turn = np.empty(4), np.empty(3)
        mujoco.mju_mat2Quat(quaternion, (wanted @ self.rotation.T).ravel())
        mujoco.mju_quat2Vel(turn, quaternion, 1.0)
        return turn


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rotation matrix with two orthogonal unit vectors as its first columns."""
    return np.stack([first, second, np.cross(first, second)], axis=1)
