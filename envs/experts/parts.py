"""Grasps of a part of an object that is too wide for the hand as a whole: a rim, a handle, an edge."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.experts.grasps import Grasp, finger_axes
from envs.experts.shapes import Shape

# P points, C candidate grips.

SPACING_M = 0.008
"""Between candidate grips."""
DEPTHS_M = (0.018, 0.03)
"""How far below what it takes hold of the grip's centre goes."""
YAWS_RAD = np.deg2rad(np.arange(-90, 90, 15))
OPEN_HALF_M = 0.036
"""From the grip's centre to the inner side of an open finger."""
FINGER_THICK_M, FINGER_HALF_WIDTH_M, FINGER_BELOW_M = 0.022, 0.012, 0.012
"""What an open finger fills: along and across the closing axis, and below the grip's centre."""
PALM_ABOVE_M, PALM_HALF_LENGTH_M, PALM_HALF_WIDTH_M = 0.045, 0.1, 0.03
MAX_PART_M = 0.05
"""Thickest part that is taken: what is wider is not a rim."""
TURN_COST_PER_RAD, LEVER_COST_PER_M, THICKNESS_COST_PER_M = 0.15, 2.0, 4.0
MIN_CONTACT = 3
"""Points between the fingers; fewer are no hold."""


def plan_part_grasp(target: Shape, others: Sequence[Shape], data: mujoco.MjData) -> Grasp | None:
    """Choose a grip from above across a thin part of the object; None where there is none with room for the fingers."""
    points = target.fine_points(data)
    obstacles = np.concatenate([np.empty((0, 3)), *(shape.fine_points(data) for shape in others)])
    box = target.box(data)
    near = (np.abs(obstacles[:, :2] - box.centre[:2]) < (box.high - box.low)[:2] / 2 + 0.15).all(axis=1)
    obstacles = obstacles[near & (obstacles[:, 2] > box.low[2] - 0.01)]
    best, lowest = None, np.inf
    for position in _candidates(points, box.low[2]):
        for yaw in YAWS_RAD:
            cost = _cost(position, float(yaw), points, obstacles, box.centre)
            if cost < lowest:
                best, lowest = Grasp(position=position, yaw=float(yaw)), cost
    return best


def _candidates(points: np.ndarray, floor_m: float) -> np.ndarray:
    """Return positions [C, 3] below the highest point of every cell of a grid over the object."""
    cells, cell_of = np.unique(np.round(points[:, :2] / SPACING_M).astype(int), axis=0, return_inverse=True)
    tops = np.full(len(cells), -np.inf)
    np.maximum.at(tops, cell_of.ravel(), points[:, 2])
    high = tops > points[:, 2].max() - 0.06
    spots = np.concatenate([np.column_stack([cells[high] * SPACING_M, tops[high] - depth]) for depth in DEPTHS_M])
    spots[:, 2] = np.maximum(spots[:, 2], floor_m + FINGER_BELOW_M + 0.002)
    return spots


def _cost(position: np.ndarray, yaw: float, points: np.ndarray, obstacles: np.ndarray, centre: np.ndarray) -> float:
    along, across = finger_axes(yaw)

    def relative(cloud: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        offset = cloud - position
        return offset[:, :2] @ along, np.abs(offset[:, :2] @ across), offset[:, 2]

    reach, aside, above = relative(points)
    between = (np.abs(reach) < OPEN_HALF_M) & (aside < FINGER_HALF_WIDTH_M) & (np.abs(above) < FINGER_BELOW_M)
    if np.count_nonzero(between) < MIN_CONTACT:
        return np.inf
    thickness = float(np.ptp(reach[between]))
    if thickness > MAX_PART_M:
        return np.inf
    for distance, sideways, height in ((reach, aside, above), relative(obstacles)):
        distance = np.abs(distance)
        in_finger = (distance > OPEN_HALF_M) & (distance < OPEN_HALF_M + FINGER_THICK_M) & (sideways < FINGER_HALF_WIDTH_M + 0.004)
        in_palm = (distance < PALM_HALF_LENGTH_M) & (sideways < PALM_HALF_WIDTH_M) & (height > PALM_ABOVE_M)
        if (in_finger & (height > -FINGER_BELOW_M)).any() or in_palm.any():
            return np.inf
    middle = abs(float(reach[between].max() + reach[between].min())) / 2
    lever = float(np.linalg.norm((position - centre)[:2]))
    return TURN_COST_PER_RAD * abs(yaw) + LEVER_COST_PER_M * lever + THICKNESS_COST_PER_M * thickness + 10 * middle
