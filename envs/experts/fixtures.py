"""The fixture expert: opens and closes drawers, turns knobs, pushes doors shut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import mujoco
import numpy as np

from envs.experts.hand import HOME_CLOSING_AXIS
from envs.experts.handling import LEAD_M, LEAD_RAD, UP, Fingers, HandlingExpert, Hold, Move
from envs.experts.shapes import Shape
from envs.experts.surroundings import PrivilegedEnv

FINGERTIP_M = 0.012
"""From the grip's centre to the fingertips."""
KNOB_GRIP_M = 0.016
"""How far below the top of a knob it is gripped."""
BEYOND = 0.02
"""How much further than asked a joint is moved, m or rad."""


DOOR_SHARE = 0.25
"""A part that turns is a door where its hinge is upright and further from its middle than this share of its diagonal."""
EDGE_M, BELOW_TOP_M = 0.05, 0.03
"""Where a door is pushed: so far within its free edge, and so far below its top, so that the hand stays above the frame."""
DOOR_ROOM_M = 0.02
"""Between a door and closed fingers that are let down beside it."""


class Condition(Protocol):
    """Where joints are when a fixture counts as open or closed, on or off."""

    @property
    def joints(self) -> tuple[str, ...]: ...
    @property
    def comparison(self) -> str: ...
    @property
    def bound(self) -> float: ...


class FixtureEnv(PrivilegedEnv, Protocol):
    """What this expert reads of an environment besides."""

    @property
    def joint_conditions(self) -> Mapping[str, Mapping[str, Condition]]:
        """Fixture or part to {'open' | 'close' | 'turnon' | 'turnoff': where its joints are then}."""
        ...


class FixtureExpert(HandlingExpert):
    """Pulls a drawer open by its handle, pushes it shut, turns a knob by its ridge, pushes a door shut along its arc."""

    def __init__(self, env: FixtureEnv, *, goal: tuple[str, ...], pace: tuple[float, float] = (0.5, 1.0)) -> None:
        """`goal` is ('open' | 'close' | 'turnon' | 'turnoff', thing); raises ValueError for a thing that has no such state.

        So it does for a door that is to be opened: there is no skill for that.
        """
        super().__init__(env, pace=pace)
        word, thing = goal
        conditions = env.joint_conditions.get(thing, {})
        if word not in conditions:
            raise ValueError(
                f"{thing} cannot be brought to {word!r}; it knows {', '.join(conditions) or 'nothing of the kind'}"
            )
        self._opens = word == "open"
        joint = env.model.joint(conditions[word].joints[0])
        self._joint, self._address = joint.id, int(joint.qposadr[0])
        self._sign = -1.0 if conditions[word].comparison.startswith("<") else 1.0
        self._until = conditions[word].bound + self._sign * BEYOND
        self._is_slide = env.model.jnt_type[joint.id] == mujoco.mjtJoint.mjJNT_SLIDE
        self._is_door = is_door(env, conditions[word].joints[0])
        if self._is_door and word != "close":
            raise ValueError(f"{thing} has a door on hinges, and there is a skill to push one shut, none to {word} it")

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; the pace comes from the seed unless clean."""
        self._part = Shape(self._env.model, self._env.data, int(self._env.model.jnt_bodyid[self._joint]))
        super().start(seed=seed, is_clean=is_clean)

    def _plan(self) -> Hold:
        if self._is_door:
            return self._door_hold()
        return self._drawer_hold() if self._is_slide else self._knob_hold()

    def _lead(self) -> Move:
        data, axis = self._env.data, self._env.data.xaxis[self._joint]
        is_there = self._sign * (data.qpos[self._address] - self._until) > 0
        if self._is_door:
            return self._along_the_arc(), self._turned, is_there
        if not self._is_slide:
            return self._from, _rotation(axis, self._sign * LEAD_RAD) @ self._hand.rotation, is_there
        forward = self._sign * axis
        along = (self._hand.position - self._from) @ forward
        return self._from + (along + LEAD_M) * forward, self._turned, is_there

    def _along_the_arc(self) -> np.ndarray:
        """Return the point [3] that lies ahead of the hand on its circle about the hinge, at the height at which it came."""
        anchor, offset = self._env.data.xanchor[self._joint], self._hand.position - self._env.data.xanchor[self._joint]
        radius = max(float(np.hypot(*(self._from - anchor)[:2])), EDGE_M)
        ahead = _rotation(self._env.data.xaxis[self._joint], self._sign * LEAD_M / radius) @ offset
        ahead[:2] *= radius / np.hypot(*ahead[:2])
        return np.array([*(anchor + ahead)[:2], self._from[2]])

    def _door_hold(self) -> Hold:
        """Let closed fingers down outside a door, near its free edge, to push it round."""
        data, anchor = self._env.data, self._env.data.xanchor[self._joint]
        points = self._part.fine_points(data)
        middle = (points.max(axis=0) + points.min(axis=0))[:2] / 2 - anchor[:2]
        radial = np.array([*middle / np.linalg.norm(middle), 0.0])
        outwards = np.cross(radial, self._sign * data.xaxis[self._joint])
        along, out = (points - anchor) @ radial, (points - anchor) @ outwards
        place = along.max() - EDGE_M
        beside = np.abs(along - place) < EDGE_M
        grip = anchor + place * radial + (out[beside].max() + FINGERTIP_M + DOOR_ROOM_M) * outwards
        grip[2] = points[:, 2].max() - BELOW_TOP_M
        return Hold(grip=grip, rotation=self._hand.facing(-UP, HOME_CLOSING_AXIS), outwards=UP, fingers=Fingers.CLOSED)

    def _drawer_hold(self) -> Hold:
        """Take or push the geom that stands out furthest from a drawer's front, looking straight at the front."""
        model, data = self._env.model, self._env.data
        forward = self._sign * data.xaxis[self._joint]
        outwards = forward if self._opens else -forward
        extents = np.abs(
            np.einsum("gij,gj->gi", data.geom_xmat[self._part.geoms].reshape(-1, 3, 3), model.geom_size[self._part.geoms])
        )
        fronts = data.geom_xpos[self._part.geoms] @ outwards + extents @ np.abs(outwards)
        handle = int(np.argmax(fronts))
        aside = np.cross(UP, outwards)
        closing = UP if extents[handle] @ UP <= extents[handle] @ np.abs(aside) else aside
        grip = data.geom_xpos[self._part.geoms[handle]].copy()
        if self._opens:
            return Hold(grip=grip, rotation=self._hand.facing(-outwards, closing), outwards=outwards, fingers=Fingers.AROUND)
        grip += (extents[handle] @ np.abs(outwards) + FINGERTIP_M) * outwards
        slanted = (outwards + UP) / np.sqrt(2)
        return Hold(grip=grip, rotation=self._hand.facing(-slanted, aside), outwards=slanted, fingers=Fingers.CLOSED)

    def _knob_hold(self) -> Hold:
        """Take the ridge of a knob from above, across."""
        points = self._part.fine_points(self._env.data)
        ridge = points[points[:, 2] > points[:, 2].max() - KNOB_GRIP_M]
        centre = (ridge[:, :2].max(axis=0) + ridge[:, :2].min(axis=0)) / 2
        _, _, axes = np.linalg.svd(ridge[:, :2] - ridge[:, :2].mean(axis=0), full_matrices=False)
        grip = np.array([*centre, points[:, 2].max() - KNOB_GRIP_M])
        return Hold(grip=grip, rotation=self._hand.facing(-UP, np.array([*axes[1], 0.0])), outwards=UP, fingers=Fingers.AROUND)


def is_door(env: PrivilegedEnv, joint: str) -> bool:
    """Return whether a joint carries a door: something that turns about an upright hinge at its side."""
    model, data = env.model, env.data
    hinge = model.joint(joint)
    if model.jnt_type[hinge.id] != mujoco.mjtJoint.mjJNT_HINGE or abs(data.xaxis[hinge.id] @ UP) < np.cos(np.deg2rad(20)):
        return False
    box = Shape(model, data, int(model.jnt_bodyid[hinge.id])).box(data)
    away = np.linalg.norm((box.centre - data.xanchor[hinge.id])[:2])
    return bool(away > DOOR_SHARE * np.linalg.norm((box.high - box.low)[:2]))


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    quaternion, matrix = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)
