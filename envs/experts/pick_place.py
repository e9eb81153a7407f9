"""The pick-and-place expert: takes the object of the goal to where the goal wants it, from any situation it is started in."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from envs.experts.grasps import Grasp, spoil_grasp
from envs.experts.hand import CLOSE, OPEN, Hand
from envs.experts.surroundings import PrivilegedEnv, Surroundings

OPEN_M = 0.06
"""Fingers further apart than this count as open."""
OPENED_M = 0.012
"""Fingers that opened this much have let go."""
STILL_M_S = 0.05
MOVED_M = 0.005
"""A grasp planned for an object that has moved further is planned again."""
HOVER_M = 0.08
OFF_THE_TABLE_M = 0.015
ABOVE_M = 0.007
"""The hand does not go down on an object while it is further from the vertical through the grasp."""
SLIP_M = 0.03
"""An object that moved this far within the hand is lost."""
DEEPER_M = 0.05
"""How much deeper an object is brought that does not leave the fingers."""
DETOUR_M = 0.35
"""How far the hand rises where it cannot reach: an arm at its joint limits gets free that way."""
MAX_TICKS = 45
"""No movement takes longer, at full pace."""
DEPARTED_TICKS = 6
STALL, MAX_STILL_TICKS = 0.003, 6
"""A hand that moves less than this in a tick (m, and elements of its rotation) for so many ticks is stuck."""


class Phase(enum.StrEnum):
    """What the expert is doing."""

    SETTLE = "settle"
    RETREAT = "retreat"
    REACH = "reach"
    DESCEND = "descend"
    GRASP = "grasp"
    LIFT = "lift"
    CARRY = "carry"
    LOWER = "lower"
    RELEASE = "release"
    DEPART = "depart"


HOLDING = (Phase.LIFT, Phase.CARRY, Phase.LOWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a phase wants the hand, and whether that is achieved."""

    position: np.ndarray
    """Of the grip, m, [3]."""
    yaw: float | None
    """None keeps the rotation as it is."""
    lean: float = 0.0
    """As in `Grasp`."""
    gripper: float
    is_done: bool
    then: Phase
    """The phase that follows."""
    speed: float = 1.0
    """Cap of the translation, as a fraction of a full action."""


class PickPlaceExpert:
    """Settle, retreat, reach, descend, grasp, lift, carry, lower, release; whatever goes wrong leads back to the start.

    Unless clean, every episode has a style of its own: a pace, pauses before some phases, and sometimes a first grasp
    that misses, so that demonstrations contain recoveries.
    """

    phase: str
    _num_ticks: int
    _num_still_ticks: int
    _pose: np.ndarray
    _held_at_m: float
    _way_out: np.ndarray | None

    def __init__(
        self,
        env: PrivilegedEnv,
        *,
        goal: tuple[str, ...] | None = None,
        share: tuple[int, int] = (0, 1),
        pace: tuple[float, float] = (0.5, 1.0),
        pause_probability: float = 0.1,
        sloppy_grasp_probability: float = 0.2,
    ) -> None:
        """`goal` is the predicate to bring about, the environment's only one when left out; `share` as in `Surroundings`.

        `pace` is the range of the largest action, the probabilities hold per phase and per episode.
        """
        if not 0.0 < pace[0] <= pace[1] <= 1.0:
            raise ValueError(f"pace is {tuple(pace)}; it is a range within (0, 1]")
        self._env = env
        self._goal, self._share = goal, share
        self._pace_range = pace
        self._pause_probability, self._sloppy_grasp_probability = pause_probability, sloppy_grasp_probability
        self._targets: dict[str, Callable[[], Target]] = {
            Phase.SETTLE: self._settle,
            Phase.RETREAT: self._retreat,
            Phase.REACH: self._reach,
            Phase.DESCEND: self._descend,
            Phase.GRASP: self._grasp_it,
            Phase.LIFT: self._lift,
            Phase.CARRY: self._carry,
            Phase.LOWER: self._lower,
            Phase.RELEASE: self._release,
            Phase.DEPART: self._depart,
        }

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; the style comes from the seed unless clean."""
        self._hand = Hand(self._env.model, self._env.data, site=self._env.gripper_site, finger_joints=self._env.finger_joints)
        self._scene = Surroundings(self._env, [self._goal] if self._goal else self._env.goal, share=self._share)
        self.phase = Phase.SETTLE
        rng = self._rng = np.random.default_rng(seed)
        self._pace = 1.0 if is_clean else float(rng.uniform(*self._pace_range))
        self._pauses = 0.0 if is_clean else self._pause_probability
        self._is_sloppy = not is_clean and bool(rng.random() < self._sloppy_grasp_probability)
        self._num_pause_ticks = 0
        is_held = self._hand.num_touching(self._scene.object) == 2
        self._enter(Phase.LIFT if is_held else Phase.SETTLE)

    @property
    def subject(self) -> str:
        """Name in `env.object_bodies` of the object that it moves."""
        return self._scene.object_name

    @property
    def destination(self) -> str:
        """Name in `env.object_bodies` of what it brings the object to, or of a site of the workspace."""
        return self._scene.support_name

    @property
    def relation(self) -> str:
        """'in' or 'on' the destination."""
        return self._scene.relation

    @property
    def is_apart(self) -> bool:
        """Whether the hand has let go of the object and moved away, so that something else can follow."""
        return self.phase in (Phase.SETTLE, Phase.RETREAT, Phase.REACH) or (
            self.phase == Phase.DEPART and self._num_ticks > DEPARTED_TICKS
        )

    def act(self) -> np.ndarray:
        """Return the next action, float32 [7] within [-1, 1]."""
        if self.phase in HOLDING and abs(self._distance_in_hand() - self._held_at_m) > SLIP_M:
            self._enter(Phase.SETTLE)
        target = self._targets[self.phase]()
        for _ in Phase:
            if not target.is_done:
                break
            self._enter(target.then)
            target = self._targets[self.phase]()
        if self._num_pause_ticks > 0:
            self._num_pause_ticks -= 1
            return self._hand.towards(self._hand.position, yaw=None, gripper=target.gripper)
        self._num_ticks += 1
        pose = np.concatenate([self._hand.position, self._hand.rotation.ravel()])
        self._num_still_ticks = self._num_still_ticks + 1 if np.abs(pose - self._pose).max() < STALL else 0
        self._pose = pose
        speed = self._pace * target.speed
        return self._hand.towards(target.position, yaw=target.yaw, lean=target.lean, gripper=target.gripper, speed=speed)

    def _enter(self, phase: Phase) -> None:
        is_stuck = self.phase == Phase.REACH and phase is Phase.RETREAT
        self.phase = phase
        self._num_ticks = self._num_still_ticks = 0
        self._pose = np.zeros(12)
        if self._rng.random() < self._pauses:
            self._num_pause_ticks = int(self._rng.integers(3, 11))
        self._from = self._hand.position
        if phase is Phase.RETREAT:
            centre = self._scene.box.centre
            self._travel_m = max(self._scene.passing_height_m(self._from, centre), centre[2] + HOVER_M)
            if is_stuck:
                self._travel_m = max(self._travel_m, self._from[2] + DETOUR_M)
        elif phase is Phase.REACH:
            self._grasp = self._plan()
        elif phase is Phase.GRASP:
            self._is_sloppy = False
        elif phase is Phase.RELEASE:
            self._width_m = self._hand.opening_m
        elif phase is Phase.LIFT:
            self._held_at_m = self._distance_in_hand()
            self._spot = self._scene.place_spot()
            below_grip_m = self._from[2] - self._scene.box.low[2]
            self._travel_m = self._scene.passing_height_m(self._from, self._spot) + below_grip_m
            self._travel_m = max(self._travel_m, self._from[2] + HOVER_M)
            self._way_out = self._scene.way_out(self._from, self._travel_m)

    # Phases: each says where the hand should be now and whether the phase is over.

    def _settle(self) -> Target:
        """Open and wait until the object lies still."""
        is_free = self._hand.opening_m > OPEN_M or not any(
            self._hand.num_touching(shape) for shape in (self._scene.object, *self._scene.obstacles)
        )
        is_done = (is_free and self._scene.is_resting(speed_m_s=STILL_M_S)) or self._num_ticks >= 25
        return Target(position=self._hand.position, yaw=None, gripper=OPEN, is_done=is_done, then=Phase.RETREAT)

    def _retreat(self) -> Target:
        """Rise above everything on the way to the object."""
        position = np.array([*self._from[:2], self._travel_m])
        is_done = self._hand.position[2] > self._travel_m - 0.01 or self._is_late()
        return Target(position=position, yaw=None, gripper=OPEN, is_done=is_done, then=Phase.REACH)

    def _reach(self) -> Target:
        """Hover over the grasp, planned again where the object moved in the meantime."""
        if np.linalg.norm(self._scene.position - self._planned_for) > MOVED_M:
            self._grasp = self._plan()
        hover = self._grasp.before(HOVER_M)
        is_there = self._is_at(hover, 0.02, 0.12)
        if np.linalg.norm(self._hand.position[:2] - hover[:2]) > 0.05:
            hover[2] = max(hover[2], self._travel_m)
        is_done, then = is_there or self._is_late(), Phase.DESCEND if is_there else Phase.RETREAT
        return Target(position=hover, yaw=self._grasp.yaw, lean=self._grasp.lean, gripper=OPEN, is_done=is_done, then=then)

    def _descend(self) -> Target:
        """Go down to the grasp, as long as the hand is right above it."""
        position = self._grasp.position
        is_done = self._is_at(position, 0.006, 0.06) or self._is_late()
        level = self._grasp.level_with(self._hand.position)
        if self._hand.distance_m(level) > ABOVE_M:
            position = level
        return Target(
            position=position,
            yaw=self._grasp.yaw,
            lean=self._grasp.lean,
            gripper=OPEN,
            is_done=is_done,
            then=Phase.GRASP,
            speed=0.8,
        )

    def _grasp_it(self) -> Target:
        """Close until the fingers stop."""
        is_done = (self._num_ticks >= 4 and self._hand.finger_speed < 0.004) or self._num_ticks >= 16
        return Target(
            position=self._from, yaw=self._grasp.yaw, lean=self._grasp.lean, gripper=CLOSE, is_done=is_done, then=Phase.LIFT
        )

    def _lift(self) -> Target:
        """Rise; from below something, such as an open drawer, come out first."""
        if self._way_out is not None:
            aside = np.array([*self._way_out, self._from[2] + OFF_THE_TABLE_M])
            if not self._is_at(aside, 0.015):
                return Target(position=aside, yaw=None, gripper=CLOSE, is_done=self._is_late(), then=Phase.SETTLE)
            self._from, self._way_out = self._hand.position, None
        position = np.array([*self._from[:2], self._travel_m])
        is_done = self._is_at(position, 0.03) or self._is_late()
        return Target(position=position, yaw=None, gripper=CLOSE, is_done=is_done, then=Phase.CARRY)

    def _carry(self) -> Target:
        position = np.array([*self._over_spot(), self._travel_m])
        is_done = self._is_at(position, 0.015) or self._is_late()
        return Target(position=position, yaw=None, gripper=CLOSE, is_done=is_done, then=Phase.LOWER)

    def _lower(self) -> Target:
        """Bring the object's bottom below a container's rim, or onto the support."""
        below_grip_m = self._hand.position[2] - self._scene.box.low[2]
        position = np.array([*self._over_spot(), self._scene.release_height_m + below_grip_m])
        is_down = not self._scene.is_goal_a_container and self._scene.is_on_support()
        is_done = is_down or self._is_at(position, 0.01) or self._is_late()
        return Target(position=position, yaw=None, gripper=CLOSE, is_done=is_done, then=Phase.RELEASE, speed=0.7)

    def _release(self) -> Target:
        """Open until the object has left the fingers; where it sticks to one, wipe it off inside the container."""
        position = self._from.copy()
        is_open = self._hand.opening_m > self._width_m + OPENED_M
        is_touching = self._hand.num_touching(self._scene.object) > 0
        if is_open and is_touching:
            here = self._hand.position
            position[:2] = here[:2] + 3 * (self._scene.box.centre - here)[:2]
            position[2] -= DEEPER_M
        is_done = (is_open and not is_touching) or self._num_ticks >= 25
        return Target(position=position, yaw=None, gripper=OPEN, is_done=is_done, then=Phase.DEPART)

    def _depart(self) -> Target:
        """Rise; where the episode is not over by then, the object did not stay and everything starts again."""
        position = self._from + np.array([0.0, 0.0, 0.1])
        is_done = self._num_ticks >= 25
        return Target(position=position, yaw=None, gripper=OPEN, is_done=is_done, then=Phase.SETTLE)

    def _is_at(self, position: np.ndarray, tolerance_m: float, tolerance_rad: float = np.inf) -> bool:
        is_turned = np.isinf(tolerance_rad) or self._hand.angle_rad(self._grasp.yaw, lean=self._grasp.lean) < tolerance_rad
        return bool(self._hand.distance_m(position) < tolerance_m and is_turned)

    def _is_late(self) -> bool:
        """Whether a movement is over although it did not arrive: it stands still, or takes too long."""
        return self._num_still_ticks >= MAX_STILL_TICKS or self._num_ticks >= MAX_TICKS / self._pace

    def _distance_in_hand(self) -> float:
        return self._hand.distance_m(self._scene.position)

    def _over_spot(self) -> np.ndarray:
        """Where the grip must be, [2], for the held object's centre to be over the spot."""
        return self._spot + (self._hand.position - self._scene.box.centre)[:2]

    def _plan(self) -> Grasp:
        self._planned_for = self._scene.position
        grasp = self._scene.plan_grasp()
        if self._is_sloppy:
            grasp = spoil_grasp(grasp, self._scene.object.points(self._env.data), rng=self._rng)
        return grasp
