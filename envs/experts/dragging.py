"""The dragging expert: takes something flat and too wide for the hand along over the table, with its fingers spread in it."""

from __future__ import annotations

import numpy as np

from envs.experts.grasps import MAX_OPENING_M, narrowest_m
from envs.experts.handling import UP, Fingers, HandlingExpert, Hold, Move
from envs.experts.surroundings import PrivilegedEnv, Surroundings

FLAT_M = 0.03
"""What is higher is lifted by its rim."""
ABOVE_M = 0.012
"""The grip above the bottom of what is dragged: closed fingertips stand in it."""
AHEAD_M = 0.01
"""The grip before the middle of what is dragged, towards the goal."""
LEAD_M = 0.028
"""How far ahead of the middle the hand is asked to be; further on the front finger climbs the rim."""
LOST_M = 0.03
"""Where the hand is further off the middle, it takes hold anew."""
OVER_M, HIGH_M = 0.05, 0.03
"""A hand that is no further off the middle, and no higher above the hold, takes hold from where it is."""
ARRIVED_SHARE = 0.5
"""Of half the goal's region: where the middle is nearer to the region's, it is there."""


class DraggingExpert(HandlingExpert):
    """Lets closed fingers down into a plate, opens them along the way to the goal until they wedge, leads, and lets go."""

    def __init__(self, env: PrivilegedEnv, *, goal: tuple[str, ...], pace: tuple[float, float] = (0.5, 1.0)) -> None:
        """`goal` is ('on', object, region of the table)."""
        super().__init__(env, pace=pace)
        self._goal = goal

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; the pace comes from the seed unless clean."""
        self._scene = Surroundings(self._env, [self._goal])
        super().start(seed=seed, is_clean=is_clean)

    def _plan(self) -> Hold:
        box, forward = self._scene.box, self._forward()
        grip = box.centre + AHEAD_M * forward
        grip[2] = box.low[2] + ABOVE_M
        return Hold(grip=grip, rotation=self._hand.facing(-UP, forward), outwards=UP, fingers=Fingers.WITHIN)

    def _lead(self) -> Move:
        goal = self._scene.box.centre + LEAD_M * self._forward()
        goal[2] = self._from[2]
        return goal, self._turned, self._has_arrived() or self._off_m() > LOST_M

    # A hand that lost hold but is still over it need not rise and come again.

    def _rise(self) -> Move:
        return self._unless_over(super()._rise())

    def _come(self) -> Move:
        return self._unless_over(super()._come())

    def _sink(self) -> Move:
        return self._unless_over(super()._sink())

    def _back(self) -> Move:
        return self._unless_over(super()._back())

    def _unless_over(self, move: Move) -> Move:
        position, rotation, is_over = move
        is_near = self._off_m() < OVER_M and self._hand.position[2] < self._hold.grip[2] + HIGH_M
        return position, rotation, is_over or (is_near and not self._has_arrived())

    def _forward(self) -> np.ndarray:
        """Return the horizontal unit vector [3] from the middle of what is dragged to the goal's."""
        way = (self._scene.region.centre - self._scene.box.centre) * [1.0, 1.0, 0.0]
        return way / max(float(np.linalg.norm(way)), 1e-6)

    def _off_m(self) -> float:
        return float(np.linalg.norm((self._hand.position - self._scene.box.centre)[:2]))

    def _has_arrived(self) -> bool:
        region = self._scene.region
        off = np.abs(self._scene.box.centre - region.centre)[:2]
        return bool((off < ARRIVED_SHARE * (region.high - region.low)[:2] / 2).all())


def is_dragged(env: PrivilegedEnv, goal: tuple[str, ...]) -> bool:
    """Return whether a goal brings something flat and too wide for the hand onto a region of the table."""
    scene = Surroundings(env, [goal])
    is_flat_and_wide = scene.box.height < FLAT_M and narrowest_m(scene.object.points(env.data)) > MAX_OPENING_M
    return scene.is_goal_a_part_of_the_table and is_flat_and_wide
