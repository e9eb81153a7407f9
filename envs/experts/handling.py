"""What opening, turning and dragging have in common: come to a thing, take hold of it or lean on it, lead it, leave it."""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.experts.hand import CLOSE, HOME_CLOSING_AXIS, OPEN, Hand
from envs.experts.shapes import Shape
from envs.experts.surroundings import CLEARANCE_M, PrivilegedEnv

UP = np.array([0.0, 0.0, 1.0])
CLEAR_M = 0.04
"""How far off what it let go the hand may turn."""
BEFORE_M = 0.09
"""How far off a handle the hand turns towards it."""
LEAD_M, LEAD_RAD = 0.05, 0.35
"""How far ahead of the part that it moves the hand is asked to be."""
NEAR_M, NEAR_RAD = 0.012, 0.12
TOUCHING_M = 0.006
STALL, MAX_STILL_TICKS, MAX_TICKS = 0.002, 8, 70
GRASP_TICKS, RELEASE_TICKS = 10, 8


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


class Fingers(enum.Enum):
    """What the fingers do with a part."""

    AROUND = enum.auto()
    """They close around it."""
    CLOSED = enum.auto()
    """Closed, they push it."""
    WITHIN = enum.auto()
    """Let down closed, they open within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """How the part is taken where it is now, in the world."""

    grip: np.ndarray
    """Where the centre of the grip goes, m, [3]."""
    rotation: np.ndarray
    """Of the grip, [3, 3]."""
    outwards: np.ndarray
    """Unit vector from the part to where the hand comes from, [3]."""
    fingers: Fingers
    """What they do with it."""


Move = tuple[np.ndarray, np.ndarray | None, bool]
"""Where a phase wants the grip, how turned (None: as it is), and whether the phase is over."""


class HandlingExpert(abc.ABC):
    """Rise, come near, sink to the height, touch, grasp, move, let go, back off.

    Whatever goes wrong leads back to the start.
    """

    phase: Phase
    _hold: Hold
    _pose: np.ndarray
    _num_ticks: int
    _num_still_ticks: int

    def __init__(self, env: PrivilegedEnv, *, pace: tuple[float, float]) -> None:
        self._env, self._pace_range = env, pace
        self._moves: dict[Phase, Callable[[], Move]] = {
            Phase.RISE: self._rise,
            Phase.COME: self._come,
            Phase.SINK: self._sink,
            Phase.TOUCH: self._touch,
            Phase.GRASP: self._stay(GRASP_TICKS),
            Phase.MOVE: self._move,
            Phase.LET_GO: self._stay(RELEASE_TICKS),
            Phase.BACK: self._back,
        }

    @abc.abstractmethod
    def _plan(self) -> Hold:
        """Return how the thing is taken where it is now."""

    @abc.abstractmethod
    def _lead(self) -> Move:
        """Return where the hand leads it now, and whether it is there."""

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; the pace comes from the seed unless clean."""
        env = self._env
        self._pace = 1.0 if is_clean else float(np.random.default_rng(seed).uniform(*self._pace_range))
        self._hand = Hand(env.model, env.data, site=env.gripper_site, finger_joints=env.finger_joints)
        shapes = [Shape(env.model, env.data, env.model.body(body).id) for body in env.object_bodies.values()]
        self._travel_m = max(float(shape.box(env.data).high[2]) for shape in shapes) + CLEARANCE_M
        self._enter(Phase.RISE)

    @property
    def is_apart(self) -> bool:
        """Whether the hand has let go, so that something else can follow."""
        return self.phase in (Phase.RISE, Phase.COME)

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
        gripper = CLOSE if self._is_closed() else OPEN
        return self._hand.towards(position, yaw=None, rotation=rotation, gripper=gripper, speed=self._pace)

    def _is_closed(self) -> bool:
        is_holding = self.phase in (Phase.GRASP, Phase.MOVE)
        if self._hold.fingers is Fingers.WITHIN:
            return not is_holding
        return is_holding or (self._hold.fingers is Fingers.CLOSED and self.phase is not Phase.BACK)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._num_ticks = self._num_still_ticks = 0
        self._pose = np.zeros(12)
        self._from, self._turned = self._hand.position, self._hand.rotation.copy()
        if phase is not Phase.MOVE:
            self._hold = self._plan()

    # Phases: each says where the hand should be, how it should be turned (None: as it is), and whether the phase is over.

    def _rise(self) -> Move:
        goal = np.array([*self._from[:2], max(self._from[2], self._travel_m)])
        return goal, None, self._hand.position[2] > goal[2] - 0.015 or self._is_late()

    def _come(self) -> Move:
        """Go above the point before the handle, turning towards it on the way."""
        goal = self._before()
        goal[2] = max(goal[2], self._travel_m)
        is_there = self._hand.distance_m(goal) < 2 * NEAR_M and self._hand.angle_to(self._hold.rotation) < 2 * NEAR_RAD
        return goal, self._hold.rotation, is_there or self._is_late()

    def _sink(self) -> Move:
        goal = self._before()
        is_there = self._hand.distance_m(goal) < NEAR_M and self._hand.angle_to(self._hold.rotation) < NEAR_RAD
        return goal, self._hold.rotation, is_there or self._is_late()

    def _touch(self) -> Move:
        is_there = self._hand.distance_m(self._hold.grip) < TOUCHING_M
        return self._hold.grip, self._hold.rotation, is_there or self._is_late()

    def _stay(self, num_ticks: int) -> Callable[[], Move]:
        return lambda: (self._from, None, self._num_ticks >= num_ticks)

    def _move(self) -> Move:
        position, rotation, is_there = self._lead()
        return position, rotation, is_there or self._is_late()

    def _back(self) -> Move:
        """Leave the way the hand came, and look straight down again: an arm that stays twisted soon finds no way on."""
        goal = self._from + BEFORE_M * self._hold.outwards
        has_left = self._hand.distance_m(self._from) > CLEAR_M
        is_there = self._hand.distance_m(goal) < 2 * NEAR_M and self._hand.angle_rad(0.0) < 3 * NEAR_RAD
        return goal, self._hand.facing(-UP, HOME_CLOSING_AXIS) if has_left else None, is_there or self._is_late()

    def _before(self) -> np.ndarray:
        return self._hold.grip + BEFORE_M * self._hold.outwards

    def _is_late(self) -> bool:
        return self._num_still_ticks >= MAX_STILL_TICKS or self._num_ticks >= MAX_TICKS / self._pace
