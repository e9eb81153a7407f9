"""Draws initial states from a task's own placement regions, as LIBERO's samplers do, from a numpy generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.libero.controller import ARM_JOINTS, FINGER_JOINTS
from envs.libero.scene import Placement, Scene

ARM_NOISE_RAD = 0.02
"""Standard deviation of the arm's initial joints: robosuite's default, and what the official initial states show."""
MAX_TRIES = 5000


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

    Raises RuntimeError when the regions are too full to place an object in 5000 tries.
    """
    qpos = model.qpos0.copy()
    for name, angle in zip(ARM_JOINTS, scene.arm_joints_at_rest, strict=True):
        qpos[_address(model, name)] = angle + ARM_NOISE_RAD * rng.standard_normal()
    for name, opening in zip(FINGER_JOINTS, scene.gripper_joints_at_rest, strict=True):
        qpos[_address(model, name)] = opening
    for draw in scene.joint_draws:
        value = _between(rng, draw.low, draw.high)
        for name in draw.joints:
            qpos[_address(model, name)] = value
    poses = draw_placements(scene, rng)
    for name, joint in scene.object_joints.items():
        if name in poses:
            first = _address(model, joint)
            qpos[first : first + 7] = poses[name]
    fixture_poses = np.array([poses.get(name, _pose_in_model(model, scene, name)) for name in scene.fixtures])
    return InitialState(qpos=qpos, qvel=np.zeros(model.nv), fixture_poses=fixture_poses.reshape(-1, 7))


def official_initial_state(model: mujoco.MjModel, scene: Scene, states: np.ndarray, index: int) -> InitialState:
    """Return an official initial state; fixtures, which LIBERO does not keep, are drawn from the index.

    Raises ValueError when there is no such state.
    """
    if not 0 <= index < len(states):
        raise ValueError(f"{scene.suite} task {scene.task_id} has the initial states 0 to {len(states) - 1}, not {index}")
    row = states[index]
    drawn = draw_initial_state(model, scene, np.random.default_rng([scene.task_id, index]))
    return InitialState(
        qpos=row[1 : 1 + model.nq].copy(),
        qvel=row[1 + model.nq :].copy(),
        fixture_poses=drawn.fixture_poses,
        is_official=True,
    )


def draw_placements(scene: Scene, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return position and quaternion of every placed object, {name: float64 [7]}."""
    poses: dict[str, np.ndarray] = {}
    placed: dict[str, Placement] = {}
    for placement in scene.placements:
        position = _draw_position(placement, poses, placed, rng)
        poses[placement.object] = np.concatenate([position, _draw_quaternion(placement, rng)])
        placed[placement.object] = placement
    return poses


def _draw_position(
    placement: Placement, poses: Mapping[str, np.ndarray], placed: Mapping[str, Placement], rng: np.random.Generator
) -> np.ndarray:
    origin = np.array(placement.origin)
    if placement.on:
        turned = np.empty(3)
        mujoco.mju_rotVecQuat(turned, np.array(placement.turned_origin), poses[placement.on][3:])
        origin = origin + poses[placement.on][:3] + turned
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
    raise RuntimeError(f"{placement.object} finds no free place in its region after {MAX_TRIES} tries")


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
