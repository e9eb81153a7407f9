"""Grasps of a part of an object that is too wide for the hand as a whole: a rim, a handle, an edge."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.experts.grasps import Grasp, hand_axes
from envs.experts.shapes import Shape

# P points, C candidate grips.

CELL_M, NEARBY_M = 0.006, 0.15
"""Points closer together count once; points further from the object are no obstacles."""
SPACING_M = 0.01
"""Between candidate grips."""
DEPTHS_M = (0.03, 0.02, 0.01, 0.0)
"""How far below what it takes hold of the grip's centre goes."""
YAWS_RAD = np.deg2rad(np.arange(-90, 90, 15))
OPEN_HALF_M = 0.036
"""From the grip's centre to the inner side of an open finger."""
FINGER_THICK_M, FINGER_HALF_WIDTH_M, FINGER_ROOM_HALF_M, FINGER_BELOW_M = 0.022, 0.012, 0.016, 0.012
"""What an open finger fills: along and across the closing axis (there also with some room), and below the grip."""
PALM_ABOVE_M, PALM_HALF_LENGTH_M, PALM_HALF_WIDTH_M = 0.045, 0.1, 0.03
WRIST_ABOVE_M, WRIST_RADIUS_M = 0.1, 0.045
"""The wrist above the palm."""
MAX_PART_M, THIN_M = 0.05, 0.014
"""Thickest part that is taken: what is wider is not a rim; and thickest that surely holds: a rim taken across."""
LEANS_RAD = (0.35, 0.6)
"""How far the hand may lean to a broad side, where something above is in its way."""
TURN_COST_PER_RAD, LEVER_COST_PER_M, THICKNESS_COST_PER_M = 0.1, 1.0, 60.0
HIGH_COST_PER_M, FAR_COST_PER_M, OFF_CENTRE_COST_PER_M = 60.0, 1.0, 10.0
MIN_CONTACT = 3
"""Points between the fingers; fewer are no hold."""


def plan_part_grasp(target: Shape, others: Sequence[Shape], data: mujoco.MjData, *, base: np.ndarray) -> Grasp | None:
    """Choose a grip from above across a thin part of the object, rather on the side of the robot's base [3].

    The hand leans where an upright one has no room at a thin part. None where there is no part with room for the fingers.
    """
    points, box = _thinned(target.fine_points(data)), target.box(data)
    obstacles = np.concatenate([np.empty((0, 3)), *(shape.fine_points(data) for shape in others)])
    is_near = (np.abs(obstacles[:, :2] - box.centre[:2]) < (box.high - box.low)[:2] / 2 + NEARBY_M).all(axis=1)
    obstacles = _thinned(obstacles[is_near & (obstacles[:, 2] > box.low[2])])
    positions = _candidates(points, box.low[2])
    fixed = LEVER_COST_PER_M * np.linalg.norm((positions - box.centre)[:, :2], axis=1)
    fixed += FAR_COST_PER_M * np.linalg.norm((positions - base)[:, :2], axis=1)
    fixed += HIGH_COST_PER_M * np.maximum(0.0, DEPTHS_M[0] - box.high[2] + positions[:, 2])
    for size, thickest_m in ((0.0, THIN_M), *((size, THIN_M) for size in LEANS_RAD), (0.0, MAX_PART_M)):
        turns = [(float(yaw), lean) for lean in ((-size, size) if size else (0.0,)) for yaw in YAWS_RAD]
        costs = np.stack([fixed + _costs(positions, yaw, lean, points, thickest_m) for yaw, lean in turns], axis=1)
        for index in np.argsort(costs, axis=None)[: int(np.isfinite(costs).sum())]:
            place, turn = np.unravel_index(index, costs.shape)
            if not _hits(positions[place], *turns[turn], obstacles):
                return Grasp(position=positions[place], yaw=turns[turn][0], lean=turns[turn][1])
    return None


def _thinned(points: np.ndarray) -> np.ndarray:
    """Return one point [3] of every cell that holds any."""
    _, first = np.unique(np.round(points / CELL_M).astype(int), axis=0, return_index=True)
    return points[first]


def _candidates(points: np.ndarray, floor_m: float) -> np.ndarray:
    """Return positions [C, 3] below the highest point of every cell of a grid over the object."""
    cells, cell_of = np.unique(np.round(points[:, :2] / SPACING_M).astype(int), axis=0, return_inverse=True)
    tops = np.full(len(cells), -np.inf)
    np.maximum.at(tops, cell_of.ravel(), points[:, 2])
    high = tops > points[:, 2].max() - 0.06
    spots = np.concatenate([np.column_stack([cells[high] * SPACING_M, tops[high] - depth]) for depth in DEPTHS_M])
    spots[:, 2] = np.maximum(spots[:, 2], floor_m + FINGER_BELOW_M + 0.002)
    return spots


def _costs(positions: np.ndarray, yaw: float, lean: float, points: np.ndarray, thickest_m: float) -> np.ndarray:
    """Return what a turn of the hand costs at each position, [C]; infinite where it holds nothing, or too much, or hits."""
    reach, aside, above = ((points @ axis)[None] - (positions @ axis)[:, None] for axis in hand_axes(yaw, lean))
    aside = np.abs(aside)
    between = (np.abs(reach) < OPEN_HALF_M) & (aside < FINGER_HALF_WIDTH_M) & (np.abs(above) < FINGER_BELOW_M)
    low, high = np.where(between, reach, np.inf).min(axis=1), np.where(between, reach, -np.inf).max(axis=1)
    is_out = (between.sum(axis=1) < MIN_CONTACT) | (high - low > thickest_m) | _in_the_way(reach, aside, above)
    with np.errstate(invalid="ignore"):
        cost = (
            TURN_COST_PER_RAD * abs(yaw) + THICKNESS_COST_PER_M * (high - low) + OFF_CENTRE_COST_PER_M * np.abs(high + low) / 2
        )
    return np.where(is_out, np.inf, cost)


def _hits(position: np.ndarray, yaw: float, lean: float, obstacles: np.ndarray) -> bool:
    reach, aside, above = ((obstacles - position) @ axis for axis in hand_axes(yaw, lean))
    return bool(_in_the_way(reach, np.abs(aside), above))


def _in_the_way(reach: np.ndarray, aside: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return whether any point (along the last axis) lies where a finger or the palm will be."""
    distance = np.abs(reach)
    in_finger = (distance > OPEN_HALF_M) & (distance < OPEN_HALF_M + FINGER_THICK_M) & (aside < FINGER_ROOM_HALF_M)
    in_palm = (distance < PALM_HALF_LENGTH_M) & (aside < PALM_HALF_WIDTH_M) & (above > PALM_ABOVE_M)
    in_wrist = (distance**2 + aside**2 < WRIST_RADIUS_M**2) & (above > WRIST_ABOVE_M)
    return ((in_finger & (above > -FINGER_BELOW_M)) | in_palm | in_wrist).any(axis=-1)
