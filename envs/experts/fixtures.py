"""The fixture expert: opens and closes drawers, and turns knobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import mujoco
import numpy as np

from envs.experts.handling import LEAD_M, LEAD_RAD, UP, HandlingExpert, Hold, Move
from envs.experts.shapes import Shape
from envs.experts.surroundings import PrivilegedEnv

FINGERTIP_M = 0.012
"""From the grip's centre to the fingertips."""
KNOB_GRIP_M = 0.016
"""How far below the top of a knob it is gripped."""
BEYOND = 0.02
"""How much further than asked a joint is moved, m or rad."""


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
    """Pulls a drawer open by its handle, pushes it shut, turns a knob by its ridge."""

    def __init__(self, env: FixtureEnv, *, goal: tuple[str, ...], pace: tuple[float, float] = (0.5, 1.0)) -> None:
        """`goal` is ('open' | 'close' | 'turnon' | 'turnoff', thing); raises ValueError for a thing that has no such state."""
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

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; the pace comes from the seed unless clean."""
        self._part = Shape(self._env.model, self._env.data, int(self._env.model.jnt_bodyid[self._joint]))
        super().start(seed=seed, is_clean=is_clean)

    def _plan(self) -> Hold:
        return self._drawer_hold() if self._is_slide else self._knob_hold()

    def _lead(self) -> Move:
        data, axis = self._env.data, self._env.data.xaxis[self._joint]
        is_there = self._sign * (data.qpos[self._address] - self._until) > 0
        if not self._is_slide:
            return self._from, _rotation(axis, self._sign * LEAD_RAD) @ self._hand.rotation, is_there
        forward = self._sign * axis
        along = (self._hand.position - self._from) @ forward
        return self._from + (along + LEAD_M) * forward, self._turned, is_there

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
            return Hold(grip=grip, rotation=self._hand.facing(-outwards, closing), outwards=outwards, is_pushed=False)
        grip += (extents[handle] @ np.abs(outwards) + FINGERTIP_M) * outwards
        slanted = (outwards + UP) / np.sqrt(2)
        return Hold(grip=grip, rotation=self._hand.facing(-slanted, aside), outwards=slanted, is_pushed=True)

    def _knob_hold(self) -> Hold:
        """Take the ridge of a knob from above, across."""
        points = self._part.fine_points(self._env.data)
        ridge = points[points[:, 2] > points[:, 2].max() - KNOB_GRIP_M]
        centre = (ridge[:, :2].max(axis=0) + ridge[:, :2].min(axis=0)) / 2
        _, _, axes = np.linalg.svd(ridge[:, :2] - ridge[:, :2].mean(axis=0), full_matrices=False)
        grip = np.array([*centre, points[:, 2].max() - KNOB_GRIP_M])
        return Hold(grip=grip, rotation=self._hand.facing(-UP, np.array([*axes[1], 0.0])), outwards=UP, is_pushed=False)


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    quaternion, matrix = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)
