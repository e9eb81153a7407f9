"""The fixture expert: opens and closes drawers, turns knobs, pushes doors shut."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from envs.experts.hand import CLOSE, OPEN, Hand
from envs.experts.shapes import Shape
from envs.experts.surroundings import CLEARANCE_M, PrivilegedEnv

UP = np.array([0.0, 0.0, 1.0])
BEFORE_M = 0.09
"""How far off a handle the hand turns towards it."""
FINGERTIP_M = 0.012
"""From the grip's centre to the fingertips."""
KNOB_GRIP_M = 0.016
"""How far below the top of a knob it is gripped."""
BEYOND = 0.02
"""How much further than asked a joint is moved, m or rad."""
LEAD_M, LEAD_RAD = 0.05, 0.35
"""How far ahead of the part that it moves the hand is asked to be."""
NEAR_M, NEAR_RAD = 0.012, 0.12
STALL, MAX_STILL_TICKS, MAX_TICKS = 0.002, 8, 70
GRASP_TICKS, RELEASE_TICKS = 10, 8


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

    joint_conditions: Mapping[str, Mapping[str, Condition]]
    """Fixture or part to {'open' | 'close' | 'turnon' | 'turnoff': where its joints are then}."""


class Phase(enum.StrEnum):
    """What the expert is doing."""

    RISE = "rise"
    COME = "come"
    SINK = "sink"
    TOUCH = "touch"
    GRASP = "grasp"
    MOVE = "move"
    LET_GO = "let go"
    BACK = "back"


AFTER = {
    Phase.RISE: Phase.COME,
    Phase.COME: Phase.SINK,
    Phase.SINK: Phase.TOUCH,
    Phase.TOUCH: Phase.GRASP,
    Phase.GRASP: Phase.MOVE,
    Phase.MOVE: Phase.LET_GO,
    Phase.LET_GO: Phase.BACK,
    Phase.BACK: Phase.RISE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """How the part is taken where it is now, in the world."""

    grip: np.ndarray
    """Where the centre of the grip goes, m, [3]."""
    rotation: np.ndarray
    """Of the grip, [3, 3]."""
    outwards: np.ndarray
    """Unit vector from the part to where the hand comes from, [3]."""
    is_pushed: bool
    """Whether closed fingers push it; else they close around it."""


class FixtureExpert:
    """Rise, come near, sink to the handle's height, touch, grasp, move it along its joint, let go, back off.

    Whatever goes wrong leads back to the start.
    """

    phase: Phase

    def __init__(self, env: FixtureEnv, *, goal: tuple[str, ...], pace: float = 1.0) -> None:
        """`goal` is ('open' | 'close' | 'turnon' | 'turnoff', thing); raises ValueError for a thing that has no such state."""
        word, thing = goal
        conditions = env.joint_conditions.get(thing, {})
        if word not in conditions:
            raise ValueError(f"{thing} cannot be brought to {word!r}; it knows {', '.join(conditions) or 'nothing of the kind'}")
        self._env, self._pace, self._opens = env, pace, word == "open"
        joint = env.model.joint(conditions[word].joints[0])
        self._joint, self._address = joint.id, int(joint.qposadr[0])
        self._sign = -1.0 if conditions[word].comparison.startswith("<") else 1.0
        self._until = conditions[word].bound + self._sign * BEYOND
        self._is_slide = env.model.jnt_type[joint.id] == mujoco.mjtJoint.mjJNT_SLIDE
        self._moves: dict[Phase, Callable[[], tuple[np.ndarray, np.ndarray | None, bool]]] = {
            Phase.RISE: self._rise,
            Phase.COME: self._come,
            Phase.SINK: self._sink,
            Phase.TOUCH: self._touch,
            Phase.GRASP: self._stay(GRASP_TICKS),
            Phase.MOVE: self._move,
            Phase.LET_GO: self._stay(RELEASE_TICKS),
            Phase.BACK: self._back,
        }

    def start(self) -> None:
        """Plan from the environment's current state."""
        env = self._env
        self._hand = Hand(env.model, env.data, site=env.gripper_site, finger_joints=env.finger_joints)
        self._part = Shape(env.model, env.data, int(env.model.jnt_bodyid[self._joint]))
        shapes = [Shape(env.model, env.data, env.model.body(body).id) for body in env.object_bodies.values()]
        self._travel_m = max(float(shape.box(env.data).high[2]) for shape in shapes) + CLEARANCE_M
        self._enter(Phase.RISE)

    @property
    def is_apart(self) -> bool:
        """Whether the hand has let go, so that something else can follow."""
        return self.phase in (Phase.RISE, Phase.COME) or (self.phase is Phase.BACK and self._num_ticks > 2)

    def act(self) -> np.ndarray:
        """Return the next action, float32 [7] within [-1, 1]."""
        position, rotation, is_done = self._moves[self.phase]()
        for _ in Phase:
            if not is_done:
                break
            self._enter(AFTER[self.phase])
            position, rotation, is_done = self._moves[self.phase]()
        self._num_ticks += 1
        pose = np.concatenate([self._hand.position, self._hand.rotation.ravel()])
        self._num_still_ticks = self._num_still_ticks + 1 if np.abs(pose - self._pose).max() < STALL else 0
        self._pose = pose
        is_holding = self.phase in (Phase.GRASP, Phase.MOVE)
        gripper = CLOSE if is_holding or (self._hold.is_pushed and self.phase is not Phase.BACK) else OPEN
        return self._hand.towards(position, yaw=None, rotation=rotation, gripper=gripper, speed=self._pace)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._num_ticks = self._num_still_ticks = 0
        self._pose = np.zeros(12)
        self._from, self._turned = self._hand.position, self._hand.rotation.copy()
        if phase is not Phase.MOVE:
            self._hold = self._drawer_hold() if self._is_slide else self._knob_hold()

    # Phases: each says where the hand should be, how it should be turned (None: as it is), and whether the phase is over.

    def _rise(self) -> tuple[np.ndarray, np.ndarray | None, bool]:
        goal = np.array([*self._from[:2], max(self._from[2], self._travel_m)])
        return goal, None, self._hand.position[2] > goal[2] - 0.015 or self._is_late()

    def _come(self) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Go above the point before the handle, turning towards it on the way."""
        goal = self._before()
        goal[2] = max(goal[2], self._travel_m)
        is_there = self._hand.distance_m(goal) < 2 * NEAR_M and self._hand.angle_to(self._hold.rotation) < 2 * NEAR_RAD
        return goal, self._hold.rotation, is_there or self._is_late()

    def _sink(self) -> tuple[np.ndarray, np.ndarray | None, bool]:
        goal = self._before()
        is_there = self._hand.distance_m(goal) < NEAR_M and self._hand.angle_to(self._hold.rotation) < NEAR_RAD
        return goal, self._hold.rotation, is_there or self._is_late()

    def _touch(self) -> tuple[np.ndarray, np.ndarray | None, bool]:
        is_there = self._hand.distance_m(self._hold.grip) < 0.006
        return self._hold.grip, self._hold.rotation, is_there or self._is_late()

    def _stay(self, num_ticks: int) -> Callable[[], tuple[np.ndarray, np.ndarray | None, bool]]:
        return lambda: (self._from, None, self._num_ticks >= num_ticks)

    def _move(self) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Lead the part along its joint until it is where it should be."""
        data, axis = self._env.data, self._env.data.xaxis[self._joint]
        is_done = self._sign * (data.qpos[self._address] - self._until) > 0 or self._is_late()
        if self._is_slide:
            forward = self._sign * axis
            along = (self._hand.position - self._from) @ forward
            return self._from + (along + LEAD_M) * forward, self._turned, is_done
        return self._from, _rotation(axis, self._sign * LEAD_RAD) @ self._hand.rotation, is_done

    def _back(self) -> tuple[np.ndarray, np.ndarray | None, bool]:
        goal = self._from + BEFORE_M * self._hold.outwards
        return goal, None, self._hand.distance_m(goal) < 2 * NEAR_M or self._is_late()

    def _before(self) -> np.ndarray:
        return self._hold.grip + BEFORE_M * self._hold.outwards

    def _is_late(self) -> bool:
        return self._num_still_ticks >= MAX_STILL_TICKS or self._num_ticks >= MAX_TICKS / self._pace

    def _drawer_hold(self) -> Hold:
        """Take or push the geom that stands out furthest from a drawer's front, looking straight at the front."""
        model, data = self._env.model, self._env.data
        forward = self._sign * data.xaxis[self._joint]
        outwards = forward if self._opens else -forward
        extents = np.abs(np.einsum("gij,gj->gi", data.geom_xmat[self._part.geoms].reshape(-1, 3, 3), model.geom_size[self._part.geoms]))
        fronts = data.geom_xpos[self._part.geoms] @ outwards + extents @ np.abs(outwards)
        handle = int(np.argmax(fronts))
        aside = np.cross(UP, outwards)
        closing = UP if extents[handle] @ UP <= extents[handle] @ np.abs(aside) else aside
        grip = data.geom_xpos[self._part.geoms[handle]].copy()
        if not self._opens:
            grip += (extents[handle] @ np.abs(outwards) + FINGERTIP_M) * outwards
            closing = aside
        return Hold(grip=grip, rotation=self._hand.facing(-outwards, closing), outwards=outwards, is_pushed=not self._opens)

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
