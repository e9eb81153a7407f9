"""The dead-man's switch of a leader arm, which has no button: its gripper."""

from __future__ import annotations

import numpy as np


class Trigger:
    """Squeezing takes control, the arm keeps control while hands move it, and gives it back when it has lain still.

    A key would need the hand that holds the arm.
    """

    def __init__(self, *, squeezed_below: float, still_within: float, release_s: float) -> None:
        """`squeezed_below`: in the gripper's unit; `still_within`: in the unit of the poses; `release_s`: how long still."""
        self._squeezed_below, self._still_within, self._release_s = squeezed_below, still_within, release_s
        self._rest: np.ndarray | None = None
        self._moved_at = float("-inf")
        self._is_held = False

    def update(self, pose: np.ndarray, *, gripper: float, now_s: float) -> bool:
        """Return whether a hand has the arm: `pose` [J] is where it is."""
        pose = np.asarray(pose, np.float64)
        if self._rest is None or np.abs(pose - self._rest).max() > self._still_within:
            self._rest, self._moved_at = pose, now_s
        self._is_held = gripper < self._squeezed_below or (self._is_held and now_s - self._moved_at < self._release_s)
        return self._is_held
