"""Draws initial states from a task's own placement regions, as LIBERO's samplers do, from a numpy generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.panda.controller import ARM_JOINTS, FINGER_JOINTS
from envs.panda.scene import Placement, Scene

ARM_NOISE_RAD = 0.02
"""Standard deviation of the arm's initial joints: robosuite's default, and what the official initial states show."""
MAX_TRIES = 5000
MAX_DRAWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialState:
    """Where everything is when an episode begins."""

    qpos: np.ndarray
    """float64 [nq]."""
    qvel: np.ndarray
    """float64 [nv]."""
    fixture_poses: np.ndarray
    """Position and quaternion (wxyz) of every fixture, float64 [fixtures, 7]."""
    is_official: bool = False
    """Whether it is one of LIBERO's own, which its evaluation protocol starts in a way of its own."""


def draw_initial_state(model: mujoco.MjModel, scene: Scene, rng: np.random.Generator) -> InitialState:
    """Draw placements of all objects and fixtures, drawers and knobs, and a little noise on the arm.

    Raises RuntimeError when the regions are too full to place all objects.
    """
    qpos = model.qpos0.copy()
    for name, angle in zip(ARM_JOINTS, scene.arm_joints_at_rest, strict=True):
        qpos[_address(model, name)] = angle + ARM_NOISE_RAD * rng.standard_normal()
    for name, opening in zip(FINGER_JOINTS, scene.gripper_joints_at_rest, strict=True):
        qpos[_address(model, name)] = opening
    openings: dict[str, float] = {}
    for draw in scene.joint_draws:
        value = _between(rng, draw.low, draw.high)
        for name in draw.joints:
            qpos[_address(model, name)] = openings[name] = value
    poses = draw_placements(scene, rng, openings=openings)
    for name, joint in scene.object_joints.items():
        if name in poses:
            first = _address(model, joint)
            qpos[first : first + 7] = poses[name]
    fixture_poses = np.array([poses.get(name, _pose_in_model(model, scene, name)) for name in scene.fixtures])
    return InitialState(qpos=qpos, qvel=np.zeros(model.nv), fixture_poses=fixture_poses.reshape(-1, 7))


def draw_placements(
    scene: Scene, rng: np.random.Generator, *, openings: Mapping[str, float] | None = None
) -> dict[str, np.ndarray]:
    """Return position and quaternion of every placed object, {name: float64 [7]}; `openings` says how far drawers are out.

    Where an object finds no room, all are placed anew, as LIBERO does; RuntimeError after 20 of these.
    """
    for _ in range(MAX_DRAWS):
        if (poses := _try_placements(scene, rng, openings or {})) is not None:
            return poses
    raise RuntimeError(f"{scene.suite} task {scene.task_id}: objects find no room in their regions after {MAX_DRAWS} draws")


def _try_placements(scene: Scene, rng: np.random.Generator, openings: Mapping[str, float]) -> dict[str, np.ndarray] | None:
    poses: dict[str, np.ndarray] = {}
    placed: dict[str, Placement] = {}
    for placement in scene.placements:
        position = _draw_position(placement, _origin(placement, poses, openings), poses, placed, rng)
        if position is None:
            return None
        poses[placement.object] = np.concatenate([position, _draw_quaternion(placement, rng)])
        placed[placement.object] = placement
    return poses


def _origin(placement: Placement, poses: Mapping[str, np.ndarray], openings: Mapping[str, float]) -> np.ndarray:
    """Return the origin of the rectangles in the world, m, [3]."""
    origin = np.array(placement.origin)
    if placement.on:
        local, turned = np.array(placement.turned_origin), np.empty(3)
        if placement.slide_joint:
            local = local + openings.get(placement.slide_joint, 0.0) * np.array(placement.slide)
        mujoco.mju_rotVecQuat(turned, local, poses[placement.on][3:])
        origin = origin + poses[placement.on][:3] + turned
    return origin


def _draw_position(
    placement: Placement,
    origin: np.ndarray,
    poses: Mapping[str, np.ndarray],
    placed: Mapping[str, Placement],
    rng: np.random.Generator,
) -> np.ndarray | None:
    margin = placement.radius if placement.is_inside else 0.0
    for _ in range(MAX_TRIES):
        chosen = rng.integers(len(placement.x_ranges))
        # A region narrower than the object turns the bounds around; LIBERO then draws between them all the same.
        x, y = (
            _between(rng, low + margin, high - margin) for low, high in (placement.x_ranges[chosen], placement.y_ranges[chosen])
        )
        position = origin + np.array([x, y, placement.z_offset - placement.bottom])
        if not placement.keeps_apart or not any(_overlaps(placement, position, placed[name], poses[name]) for name in placed):
            return position
    return None


def _overlaps(placement: Placement, position: np.ndarray, other: Placement, other_pose: np.ndarray) -> bool:
    distance = np.hypot(position[0] - other_pose[0], position[1] - other_pose[1])
    is_low = position[2] - other_pose[2] <= other.top - placement.bottom
    return bool(distance <= other.radius + placement.radius and is_low)


def _draw_quaternion(placement: Placement, rng: np.random.Generator) -> np.ndarray:
    result = np.array([1.0, 0.0, 0.0, 0.0])
    for axis, low, high in placement.rotations:
        half = _between(rng, low, high) / 2
        turn, product = np.zeros(4), np.empty(4)
        turn[0], turn[1 + "xyz".index(axis)] = np.cos(half), np.sin(half)
        mujoco.mju_mulQuat(product, turn, result)
        result = product
    return result if placement.quaternion_order == "wxyz" else result[[1, 2, 3, 0]]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _address(model: mujoco.MjModel, joint: str) -> int:
    return int(model.jnt_qposadr[mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint)])


def _pose_in_model(model: mujoco.MjModel, scene: Scene, fixture: str) -> np.ndarray:
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, scene.object_bodies[fixture])
    return np.concatenate([model.body_pos[body], model.body_quat[body]])
