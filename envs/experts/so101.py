"""The SO-101's expert: takes the cube to the disc, from any situation it is started in, by joint targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.experts.pick_place import HOLDING, Phase
from envs.twin.environment import CONTROL_HZ, JointUnits
from envs.twin.plant import CUBE_HEIGHT_M, So101Plant

# Shapes: J = 6 joints in the order of the plant's JOINTS. The hand always points straight down.

SHOULDER_M = np.array([0.03, 0.115])
"""Of the shoulder's axis from the arm's, outwards and up."""
UPPER_ARM_M, FOREARM_M, HAND_M = 0.116, 0.135, 0.12
"""Between the axes of shoulder, elbow and wrist, and from there to the grip."""
REACH_M = (0.115, 0.25)
"""How far from the arm's axis the hand can point down on the table."""
GRIP_M = 0.018
"""Height of the grip when it holds a cube that lies on the table."""
HOVER_M = 0.075
ASIDE_M = 0.006
"""How far the cube is from the middle between the jaws, towards the moving one, when the hand comes down."""
OPEN_RAD, CLOSED_RAD = 0.6, -0.175
NEAR_M = 0.006
SPEED_RAD_S, SPEED_M_S = 2.4, 0.3
"""At full pace: of joints, and of the grip along its path."""
MAX_TICKS = 50


class PlantEnv(Protocol):
    """The environment that it acts in."""

    plant: So101Plant
    units: JointUnits


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a phase wants the grip, and whether that is achieved."""

    position: np.ndarray
    """m, [3]."""
    gripper: float
    """rad."""
    is_done: bool
    then: Phase
    speed: float = 1.0
    """Share of the pace."""


class So101Expert:
    """Retreat, reach, descend, grasp, lift, carry, lower, release, depart; a lost cube leads back to the start.

    Unless clean, every episode has a style of its own: a pace, and pauses before some phases.
    """

    phase: str
    subject, destination, relation = "cube", "disc", "on"

    def __init__(self, env: PlantEnv, *, pace: tuple[float, float] = (0.6, 1.0), pause_probability: float = 0.1) -> None:
        """`pace` is the range of the share of full speed, the probability holds per phase."""
        if not 0.0 < pace[0] <= pace[1] <= 1.0:
            raise ValueError(f"pace is {tuple(pace)}; it is a range within (0, 1]")
        self._plant, self._units = env.plant, env.units
        self._kp_J = self._plant.model.actuator_gainprm[:, 0].copy()
        self._pace_range, self._pause_probability = pace, pause_probability
        self._targets: dict[str, Callable[[], Target]] = {
            Phase.RETREAT: self._retreat,
            Phase.REACH: self._reach,
            Phase.DESCEND: self._descend,
            Phase.GRASP: self._grasp,
            Phase.LIFT: self._lift,
            Phase.CARRY: self._carry,
            Phase.LOWER: self._lower,
            Phase.RELEASE: self._release,
            Phase.DEPART: self._depart,
        }

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the plant's current state; the style comes from the seed unless clean."""
        rng = self._rng = np.random.default_rng(seed)
        self._pace = 1.0 if is_clean else float(rng.uniform(*self._pace_range))
        self._pauses = 0.0 if is_clean else self._pause_probability
        self._goal_J = self._plant.positions()
        self._roll = float(self._goal_J[4])
        self._num_pause_ticks = self._num_lost_ticks = 0
        self._enter(Phase.LIFT if self._plant.num_jaws_touching == 2 else Phase.RETREAT)

    def act(self) -> np.ndarray:
        """Return the next action, float32 [6] in the robot's units."""
        self._num_lost_ticks = self._num_lost_ticks + 1 if self._plant.num_jaws_touching < 2 else 0
        if self.phase in HOLDING and self._num_lost_ticks > 3:
            self._enter(Phase.RETREAT)
        target = self._targets[self.phase]()
        if target.is_done or self._num_ticks > MAX_TICKS / self._pace:
            self._enter(target.then)
            target = self._targets[self.phase]()
        if self._num_pause_ticks > 0:
            self._num_pause_ticks -= 1
        else:
            self._num_ticks += 1
            self._move(target)
        action_J = self._units.from_rad(self._goal_J + self._plant.droop())
        return np.clip(action_J, self._units.low, self._units.high).astype(np.float32)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._num_ticks = 0
        if self._rng.random() < self._pauses:
            self._num_pause_ticks = int(self._rng.integers(3, 11))
        self._from = self._path = self._plant.grip()
        if phase is Phase.REACH:
            cube, yaw = self._plant.cube()
            self._cube = cube
            self._roll = nearest_roll(pan=np.arctan2(cube[1], cube[0]), yaw=yaw)
            across = np.arctan2(cube[1], cube[0]) - self._roll
            self._above = cube[:2] + ASIDE_M * np.array([-np.sin(across), np.cos(across)])

    def _move(self, target: Target) -> None:
        """Take the path a step on, and the joints' goals towards it."""
        step_m = SPEED_M_S * self._pace * target.speed / CONTROL_HZ
        way = target.position - self._path
        self._path = self._path + way * min(1.0, step_m / max(float(np.linalg.norm(way)), 1e-9))
        step_J = np.full(len(self._goal_J), SPEED_RAD_S * self._pace / CONTROL_HZ)
        step_J[-1] *= 1.5
        wanted_J = np.array([*pointing_down(self._path, roll=self._roll), target.gripper])
        self._goal_J = self._goal_J + np.clip(wanted_J - self._goal_J, -step_J, step_J)

    # Phases: each says where the grip should be now and whether the phase is over.

    def _retreat(self) -> Target:
        """Rise with open jaws, straight up."""
        position = _within_reach(np.array([*self._from[:2], max(self._from[2], GRIP_M + HOVER_M)]))
        is_done = self._is_near(position, 0.02)
        return Target(position=position, gripper=OPEN_RAD, is_done=is_done, then=Phase.REACH)

    def _reach(self) -> Target:
        position = np.array([*self._above, GRIP_M + HOVER_M])
        is_done = self._is_near(position) and self._is_turned()
        return Target(position=position, gripper=OPEN_RAD, is_done=is_done, then=Phase.DESCEND)

    def _descend(self) -> Target:
        position = np.array([*self._above, GRIP_M])
        is_pushed = bool(np.linalg.norm(self._plant.cube()[0] - self._cube) > 0.01)
        then = Phase.RETREAT if is_pushed else Phase.GRASP
        return Target(position=position, gripper=OPEN_RAD, is_done=is_pushed or self._is_near(position), then=then, speed=0.7)

    def _grasp(self) -> Target:
        """Close until both jaws touch the cube and stand still."""
        is_still = abs(self._plant.velocities()[-1]) < 0.1
        is_held = self._plant.num_jaws_touching == 2 and is_still and self._num_ticks >= 4
        is_done, then = is_held or self._num_ticks >= 25, Phase.LIFT if is_held else Phase.RETREAT
        return Target(position=self._from, gripper=CLOSED_RAD, is_done=is_done, then=then)

    def _lift(self) -> Target:
        position = np.array([*self._from[:2], GRIP_M + HOVER_M])
        return Target(position=position, gripper=CLOSED_RAD, is_done=self._is_near(position, 0.02), then=Phase.CARRY)

    def _carry(self) -> Target:
        position = np.array([*self._over_disc(), GRIP_M + HOVER_M])
        return Target(position=position, gripper=CLOSED_RAD, is_done=self._is_near(position, 0.01), then=Phase.LOWER)

    def _lower(self) -> Target:
        below_m = self._plant.grip()[2] - self._plant.cube()[0][2]
        position = np.array([*self._over_disc(), CUBE_HEIGHT_M + below_m + 0.001])
        is_done = self._is_near(position)
        return Target(position=position, gripper=CLOSED_RAD, is_done=is_done, then=Phase.RELEASE, speed=0.7)

    def _release(self) -> Target:
        is_done = self._plant.num_jaws_touching == 0 and self._num_ticks >= 4
        return Target(position=self._from, gripper=OPEN_RAD, is_done=is_done, then=Phase.DEPART)

    def _depart(self) -> Target:
        """Rise; where the episode is not over by then, the cube did not stay and everything starts again."""
        position = np.array([*self._from[:2], GRIP_M + HOVER_M])
        return Target(position=position, gripper=OPEN_RAD, is_done=self._is_near(position, 0.02), then=Phase.RETREAT)

    def _over_disc(self) -> np.ndarray:
        """Where the grip must be, [2], for the held cube to be over the disc's centre."""
        return (self._plant.disc() + self._plant.grip() - self._plant.cube()[0])[:2]

    def _is_near(self, position: np.ndarray, tolerance_m: float = NEAR_M) -> bool:
        return bool(np.linalg.norm(self._plant.grip() - position) < tolerance_m)

    def _is_turned(self) -> bool:
        return abs(float(self._plant.positions()[4]) - self._roll) < 0.06


def pointing_down(position: np.ndarray, *, roll: float) -> np.ndarray:
    """Return the five joint angles, rad, that bring the grip to a point (m, [3]) with the hand straight down.

    Points beyond the arm's reach are taken to its end.
    """
    pan = np.arctan2(position[1], position[0])
    wrist = np.array([np.hypot(position[0], position[1]), position[2] + HAND_M]) - SHOULDER_M
    shortest, longest = abs(FOREARM_M - UPPER_ARM_M) + 0.01, UPPER_ARM_M + FOREARM_M - 0.001
    distance = float(np.clip(np.linalg.norm(wrist), shortest, longest))
    cosine = (UPPER_ARM_M**2 + distance**2 - FOREARM_M**2) / (2 * UPPER_ARM_M * distance)
    lift = np.pi / 2 - (np.arctan2(wrist[1], wrist[0]) + np.arccos(cosine))
    cosine = (UPPER_ARM_M**2 + FOREARM_M**2 - distance**2) / (2 * UPPER_ARM_M * FOREARM_M)
    elbow = np.pi / 2 - np.arccos(cosine)
    return np.array([pan, lift, elbow, np.pi / 2 - lift - elbow, roll])


def nearest_roll(*, pan: float, yaw: float) -> float:
    """Return the smallest roll, rad, with which the jaws close across two faces of a cube turned by `yaw`."""
    quarter = np.pi / 2
    return float((pan - yaw + quarter / 2) % quarter - quarter / 2)


def _within_reach(position: np.ndarray) -> np.ndarray:
    """Return the nearest point over which the hand can point down."""
    distance = float(np.hypot(position[0], position[1]))
    scale = np.clip(distance, *REACH_M) / max(distance, 1e-9)
    return np.array([position[0] * scale, position[1] * scale, position[2]])
