"""robosuite 1.4's own success checks and dense rewards, read off MuJoCo data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import mujoco
import numpy as np

from envs.panda.controller import GRIPPER_SITE
from envs.panda.scene import Scene
from envs.robosuite.tasks import Task

# Distances in metres and weights as robosuite 1.4.0 has them in robosuite/environments/manipulation.

LEFT_PAD, RIGHT_PAD = "gripper0_finger1_pad_collision", "gripper0_finger2_pad_collision"
TABLE_M = 0.8
"""Height of the table of Lift and Stack."""
LIFTED_M = 0.04
BINS, BIN_SIZE = np.array([0.1, 0.28, 0.8]), np.array([0.39, 0.49])
"""Centre of the four target bins and the size of all of them together."""
BIN_SIGNS = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
"""In which direction from that centre an object's bin lies: milk, bread, cereal, can."""
BIN_DEPTH_M = 0.1
RELEASED_SHARE = 0.6
"""An object counts once the hand is so far away that its closeness, 1 - tanh(10 d), is less."""
PEGS_TABLE_M, PEG_REACH_M, PEG_HEIGHT_M = 0.82, 0.03, 0.05
REACH, GRASP, LIFT, HOVER = 0.1, 0.35, 0.5, 0.7
OPEN_RAD = 0.3


class TaskReward(Protocol):
    """What a task asks for, judged from data whose poses and contacts belong to its state."""

    def is_success(self, data: mujoco.MjData) -> bool:
        """Return robosuite's own answer."""
        ...

    def shaped(self, data: mujoco.MjData) -> float:
        """Return robosuite's dense reward of a control step, in [0, 1] (above where several objects share a task)."""
        ...


class _Scene:
    """Names looked up once."""

    def __init__(self, model: mujoco.MjModel, scene: Scene) -> None:
        self.model = model
        self._grip = model.site(GRIPPER_SITE).id
        self.bodies = {name: int(model.body(body).id) for name, body in scene.object_bodies.items()}
        self.geoms = {name: _mask(model, geoms) for name, geoms in scene.contact_geoms.items()}
        self._pads = [_mask(model, [name]) for name in (LEFT_PAD, RIGHT_PAD)]

    def grip(self, data: mujoco.MjData) -> np.ndarray:
        return data.site_xpos[self._grip]

    def closeness(self, data: mujoco.MjData, position: np.ndarray) -> float:
        return _closeness(float(np.linalg.norm(self.grip(data) - position)))

    def is_grasped(self, data: mujoco.MjData, geoms: np.ndarray) -> bool:
        """Return whether both finger pads touch any of these geoms."""
        return all(_are_touching(data, pad, geoms) for pad in self._pads)


class _Lift:
    def __init__(self, scene: _Scene) -> None:
        self._scene, self._cube = scene, scene.bodies["cube"]

    def is_success(self, data: mujoco.MjData) -> bool:
        return bool(data.xpos[self._cube, 2] > TABLE_M + LIFTED_M)

    def shaped(self, data: mujoco.MjData) -> float:
        if self.is_success(data):
            return 1.0
        grasped = self._scene.is_grasped(data, self._scene.geoms["cube"])
        return (self._scene.closeness(data, data.xpos[self._cube]) + 0.25 * grasped) / 2.25


class _Stack:
    def __init__(self, scene: _Scene) -> None:
        self._scene = scene
        self._upper, self._lower = scene.bodies["cubeA"], scene.bodies["cubeB"]

    def _stages(self, data: mujoco.MjData) -> tuple[float, float, float]:
        upper, lower, geoms = data.xpos[self._upper], data.xpos[self._lower], self._scene.geoms
        is_grasped = self._scene.is_grasped(data, geoms["cubeA"])
        reaching = 0.25 * self._scene.closeness(data, upper) + 0.25 * is_grasped
        lifting = 0.0
        if upper[2] > TABLE_M + LIFTED_M:
            lifting = 1.0 + 0.5 * (1 - np.tanh(np.linalg.norm(upper[:2] - lower[:2])))
        is_stacked = not is_grasped and lifting > 0 and _are_touching(data, geoms["cubeA"], geoms["cubeB"])
        return reaching, float(lifting), 2.0 * is_stacked

    def is_success(self, data: mujoco.MjData) -> bool:
        return self._stages(data)[2] > 0

    def shaped(self, data: mujoco.MjData) -> float:
        return max(self._stages(data)) / 2.0


class _Placing:
    """Objects that are brought to a place of their own: into bins, onto pegs."""

    def __init__(
        self,
        scene: _Scene,
        names: Sequence[str],
        *,
        needs_all: bool,
        lift_to_m: float,
        handles: Sequence[int] | None = None,
        places: Callable[[mujoco.MjData], np.ndarray],
        is_placed: Callable[[np.ndarray, np.ndarray], np.ndarray],
        is_over: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> None:
        """`places` returns where objects go, [N, 2]; the other two tell, from positions [N, 3] and places, what is so, [N]."""
        self._scene, self._needs_all, self._lift_to_m = scene, needs_all, lift_to_m
        self._bodies = np.array([scene.bodies[name] for name in names])
        self._geoms = np.array([scene.geoms[name] for name in names])
        self._handles = None if handles is None else np.array(handles)
        self._places, self._is_placed, self._is_over = places, is_placed, is_over

    def _done(self, data: mujoco.MjData) -> np.ndarray:
        """Return which objects are in their place and let go, [N]."""
        positions = data.xpos[self._bodies]
        distances = np.linalg.norm(positions - self._scene.grip(data), axis=1)
        return self._is_placed(positions, self._places(data)) & (1 - np.tanh(10.0 * distances) < RELEASED_SHARE)

    def is_success(self, data: mujoco.MjData) -> bool:
        done = self._done(data)
        return bool(done.all() if self._needs_all else done.any())

    def shaped(self, data: mujoco.MjData) -> float:
        done = self._done(data)
        reward = float(done.sum()) + self._stage(data, ~done)
        return reward / len(done) if self._needs_all else reward

    def _stage(self, data: mujoco.MjData, is_waiting: np.ndarray) -> float:
        """Return the best of reaching, grasping, lifting and hovering over all objects that wait."""
        if not is_waiting.any():
            return 0.0
        positions, places = data.xpos[self._bodies][is_waiting], self._places(data)[is_waiting]
        reached = positions if self._handles is None else data.site_xpos[self._handles][is_waiting]
        reaching = REACH * _closeness(float(np.linalg.norm(reached - self._scene.grip(data), axis=1).min()))
        grasping = GRASP * self._scene.is_grasped(data, self._geoms[is_waiting].any(axis=0))
        lifting = 0.0
        if grasping > 0:
            below_m = np.maximum(self._lift_to_m - positions[:, 2], 0.0).min()
            lifting = GRASP + (1 - np.tanh(15.0 * below_m)) * (LIFT - GRASP)
        near = (1 - np.tanh(10.0 * np.linalg.norm(places - positions[:, :2], axis=1))) * (HOVER - LIFT)
        hovering = np.where(self._is_over(positions, places), LIFT, lifting) + near
        return float(max(reaching, grasping, lifting, hovering.max()))


class _Door:
    def __init__(self, model: mujoco.MjModel, scene: _Scene) -> None:
        self._scene = scene
        self._handle = model.site("Door_handle").id
        self._hinge, self._latch = (model.joint(name).qposadr[0] for name in ("Door_hinge", "Door_latch_joint"))

    def is_success(self, data: mujoco.MjData) -> bool:
        return bool(data.qpos[self._hinge] > OPEN_RAD)

    def shaped(self, data: mujoco.MjData) -> float:
        if self.is_success(data):
            return 1.0
        reaching = 0.25 * self._scene.closeness(data, data.site_xpos[self._handle])
        return reaching + float(np.clip(0.25 * abs(data.qpos[self._latch] / (0.5 * np.pi)), -0.25, 0.25))


def compile_reward(model: mujoco.MjModel, scene: Scene, task: Task) -> TaskReward:
    """Look up what the task's check reads and return it."""
    found = _Scene(model, scene)
    if scene.suite == "lift":
        return _Lift(found)
    if scene.suite == "stack":
        return _Stack(found)
    if scene.suite == "door":
        return _Door(model, found)
    return (_bins if scene.suite == "pick_place" else _pegs)(model, found, needs_all=not task.object)


def _bins(model: mujoco.MjModel, scene: _Scene, *, needs_all: bool) -> TaskReward:
    centres = BINS[:2] + BIN_SIGNS * BIN_SIZE / 4

    def is_placed(positions: np.ndarray, places: np.ndarray) -> np.ndarray:
        is_within = (np.abs(positions[:, :2] - places) < BIN_SIZE / 4).all(axis=1)
        return is_within & (positions[:, 2] > BINS[2]) & (positions[:, 2] < BINS[2] + BIN_DEPTH_M)

    return _Placing(
        scene,
        ("Milk", "Bread", "Cereal", "Can"),
        needs_all=needs_all,
        lift_to_m=BINS[2] + 0.25,
        places=lambda data: centres,
        is_placed=is_placed,
        is_over=lambda positions, places: (np.abs(positions[:, :2] - places) < BIN_SIZE / 4).all(axis=1),
    )


def _pegs(model: mujoco.MjModel, scene: _Scene, *, needs_all: bool) -> TaskReward:
    pegs = np.array([model.body(name).id for name in ("peg1", "peg2")])

    def is_placed(positions: np.ndarray, places: np.ndarray) -> np.ndarray:
        is_around = (np.abs(positions[:, :2] - places) < PEG_REACH_M).all(axis=1)
        return is_around & (positions[:, 2] < PEGS_TABLE_M + PEG_HEIGHT_M)

    return _Placing(
        scene,
        ("SquareNut", "RoundNut"),
        needs_all=needs_all,
        lift_to_m=float(model.body("table").pos[2]) + 0.2,
        handles=[model.site(f"{name}_handle_site").id for name in ("SquareNut", "RoundNut")],
        places=lambda data: data.xpos[pegs, :2],
        is_placed=is_placed,
        is_over=lambda positions, places: np.zeros(len(positions), bool),
    )


def _closeness(distance_m: float) -> float:
    return float(1 - np.tanh(10.0 * distance_m))


def _mask(model: mujoco.MjModel, names: Iterable[str]) -> np.ndarray:
    mask = np.zeros(model.ngeom, bool)
    for name in names:
        mask[model.geom(name).id] = True
    return mask


def _are_touching(data: mujoco.MjData, ours: np.ndarray, theirs: np.ndarray) -> bool:
    one, other = data.contact.geom[: data.ncon].T
    return bool(((ours[one] & theirs[other]) | (ours[other] & theirs[one])).any())
