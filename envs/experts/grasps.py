"""Where to take hold of an object and where to put it down, chosen from the shapes on the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from envs.experts.hand import HOME_CLOSING_AXIS
from envs.experts.shapes import Box, Shape

MAX_OPENING_M = 0.078
"""Widest object that fits between open fingers (they open to 80 mm)."""
FINGER_REACH_M = 0.035
"""How far below the top of a tall object the grip goes: the palm must not touch."""
MIN_ABOVE_BOTTOM_M, LOW_OBJECT_M = 0.016, 0.05
YAW_COST_M_PER_RAD = 0.015
"""A wider grasp is accepted where it saves turning the hand."""
FINGER_FROM_M, FINGER_TO_M, FINGER_HALF_WIDTH_M = 0.03, 0.065, 0.018
"""Where the open fingers come down, from the grip's centre along and across the closing axis."""
PALM_ABOVE_M, PALM_HALF_LENGTH_M, PALM_HALF_WIDTH_M = 0.035, 0.105, 0.035
"""The palm above the grip, along and across the closing axis."""
YAWS_RAD = np.deg2rad(np.arange(-90, 90, 5))
WALL_M = 0.025
"""Thickness of a container's wall, with some room."""
SPOT_SPACING_M = 0.055
"""Two objects on one support lie at least this far apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grasp:
    """A pose of the grip."""

    position: np.ndarray
    """Of the grip site in the world, m, [3]."""
    yaw: float
    """About the world's z axis, from the pose in which the hand looks straight down, rad."""
    lean: float = 0.0
    """About the axis in which the fingers then close: how far the hand leans to their broad side, rad."""

    def before(self, distance_m: float) -> np.ndarray:
        """Return the position [3] so far off from which the hand comes."""
        return self.position + distance_m * hand_axes(self.yaw, self.lean)[2]

    def level_with(self, here: np.ndarray) -> np.ndarray:
        """Return the position [3], on the line on which the hand comes, that is as far off as a place [3]."""
        if not self.lean:
            return np.array([*self.position[:2], here[2]])
        return self.before(float((here - self.position) @ hand_axes(self.yaw, self.lean)[2]))


def plan_grasp(target: Shape, others: Sequence[Shape], data: mujoco.MjData) -> Grasp:
    """Choose a grasp from above across the narrowest side that leaves room for the fingers."""
    points, box = target.points(data), target.box(data)
    above_bottom = max(0.35 * box.height, MIN_ABOVE_BOTTOM_M)
    if box.height > LOW_OBJECT_M:
        above_bottom = max(MIN_ABOVE_BOTTOM_M, box.height - FINGER_REACH_M)
    position = np.array([*box.centre[:2], box.low[2] + above_bottom])
    obstacles = np.concatenate([np.empty((0, 3)), *(shape.points(data) for shape in others)]) - position
    obstacles = obstacles[(obstacles[:, 2] > -0.02) & (np.linalg.norm(obstacles[:, :2], axis=1) < 0.15)]

    def cost(yaw: float) -> float:
        along, across = finger_axes(yaw)
        width = np.ptp(points[:, :2] @ along)
        distance, aside = np.abs(obstacles[:, :2] @ along), np.abs(obstacles[:, :2] @ across)
        hits_finger = (distance > FINGER_FROM_M) & (distance < FINGER_TO_M) & (aside < FINGER_HALF_WIDTH_M)
        hits_palm = (obstacles[:, 2] > PALM_ABOVE_M) & (distance < PALM_HALF_LENGTH_M) & (aside < PALM_HALF_WIDTH_M)
        return width + YAW_COST_M_PER_RAD * abs(yaw) + 1.0 * (width > MAX_OPENING_M) + 0.5 * (hits_finger | hits_palm).any()

    return Grasp(position=position, yaw=float(min(YAWS_RAD, key=cost)))


def narrowest_m(points: np.ndarray) -> float:
    """Return the smallest horizontal width of points [P, 3]."""
    return min(float(np.ptp(points[:, :2] @ finger_axes(yaw)[0])) for yaw in YAWS_RAD)


def spoil_grasp(grasp: Grasp, points: np.ndarray, *, rng: np.random.Generator) -> Grasp:
    """Return a grasp that misses the object: above it, or beside it along the fingers' broad side."""
    if rng.random() < 0.5:
        return replace(grasp, position=np.array([*grasp.position[:2], points[:, 2].max() + rng.uniform(0.005, 0.02)]))
    _, across = finger_axes(grasp.yaw)
    beside_m = np.ptp(points[:, :2] @ across) / 2 + rng.uniform(0.015, 0.025)
    shift = rng.choice([-1.0, 1.0]) * beside_m * across
    return replace(grasp, position=grasp.position + np.array([*shift, 0.0]))


def free_spot(support: Box, others: Sequence[Box]) -> np.ndarray:
    """Return the point [2] of a support nearest to its centre that keeps away from what already lies there."""
    reach = np.maximum((support.high - support.low)[:2] / 2 - SPOT_SPACING_M / 2 - 0.01, 0.0)
    steps = np.linspace(-1.0, 1.0, 5)
    spots = support.centre[:2] + np.array([(x, y) for x in steps for y in steps]) * reach
    spots = spots[np.argsort(np.linalg.norm(spots - support.centre[:2], axis=1), kind="stable")]
    centres = np.array([box.centre[:2] for box in others if box.high[2] > support.low[2] + 0.01]).reshape(-1, 2)
    room = np.linalg.norm(spots[:, None] - centres[None], axis=-1).min(axis=1, initial=np.inf)
    is_free = room >= SPOT_SPACING_M
    return spots[np.argmax(is_free)] if is_free.any() else spots[np.argmax(room)]


def tilting_shift(points: np.ndarray, opening: Box) -> np.ndarray:
    """Return the shift [2] off a container's centre with which an object too long for it goes in end first; else zero."""
    directions = np.array([finger_axes(yaw)[0] for yaw in YAWS_RAD])
    lengths = np.ptp(points[:, :2] @ directions.T, axis=0)
    longest = directions[np.argmax(lengths)]
    inner = (opening.high - opening.low)[:2] / 2 - WALL_M
    room = float(np.min(inner / np.maximum(np.abs(longest), 1e-6)))
    return longest * min(0.0, room - lengths.max() / 2)


def finger_axes(yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the horizontal directions [2] in which the fingers close and along their broad side."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return turn @ HOME_CLOSING_AXIS[:2], turn @ [1.0, 0.0]


def hand_axes(yaw: float, lean: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the directions [3] in which the fingers close, along their broad side, and from the fingers to the palm."""
    along, across = (np.array([*axis, 0.0]) for axis in finger_axes(yaw))
    up = np.array([0.0, 0.0, 1.0])
    return along, np.cos(lean) * across - np.sin(lean) * up, np.cos(lean) * up + np.sin(lean) * across
