"""From directions along single dimensions to actions: the part that keyboard and gamepad share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from opentau.types import Interface

# Shapes: A action dimensions, S state dimensions.

ABSOLUTE = "absolute_"
"""How the names of action spaces begin whose actions are poses; all others are changes."""
LEAD_S = 0.5
"""How far the human's target may run ahead of a robot that is blocked or slow, in seconds at full speed."""


class Jog:
    """Turn rates in [-1, 1] per action dimension into actions of a robot's own space.

    Where actions are poses, the human's target starts at the present pose and is moved at `speed` units a second; where they
    are changes, an action is the rate itself, scaled by `speed`. A gripper that opens and closes with a change keeps its last
    command, because letting go of the key does not mean letting go of the object.
    """

    def __init__(self, *, interface: Interface, speed: float | None = None, speeds: Mapping[str, float] | None = None) -> None:
        """`speed`: units a second (poses, default 30) or share of a full action (changes, default 0.5); `speeds` by name."""
        self.names = interface.action_names
        self._is_pose = interface.action_space.startswith(ABSOLUTE)
        default = (30.0 if self._is_pose else 0.5) if speed is None else speed
        self._speed_A = np.array([(speeds or {}).get(name, default) for name in self.names])
        self._tick_s = 1.0 / interface.control_hz
        self._held = np.array([not self._is_pose and "gripper" in name for name in self.names])
        self._target_A: np.ndarray | None = None
        self._kept_A = np.zeros(len(self.names))

    def start(self) -> None:
        """Forget the target: the next action starts where the robot is."""
        self._target_A = None

    def keep(self, action_A: np.ndarray) -> None:
        """Take over from whoever acted before: a gripper goes on with what it was commanded last."""
        self._kept_A = np.where(self._held, action_A, self._kept_A)

    def act(self, state_S: np.ndarray, *, rate_A: np.ndarray) -> np.ndarray:
        """Return the action of one control step, float32 [A]; `state_S` begins with the pose that actions speak of."""
        if not self._is_pose:
            self._kept_A = np.where(self._held & (rate_A != 0.0), np.sign(rate_A), self._kept_A)
            return np.where(self._held, self._kept_A, rate_A * self._speed_A).astype(np.float32)
        pose_A, lead_A = np.asarray(state_S[: len(self.names)], np.float64), self._speed_A * LEAD_S
        target_A = pose_A if self._target_A is None else self._target_A
        self._target_A = np.clip(target_A + rate_A * self._speed_A * self._tick_s, pose_A - lead_A, pose_A + lead_A)
        return self._target_A.astype(np.float32)
