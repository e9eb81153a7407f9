"""What an emulated servo bus moves: a small protocol, and a first-order arm that needs no physics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

_TIME_CONSTANT_S = 0.05
_MAX_SPEED = 6.0


class Plant(Protocol):
    """An arm's body: six joints in the order of `calibration.JOINTS`, in radians from its own zero pose."""

    def positions(self) -> np.ndarray:
        """Return the joints' angles, float64 [6], rad."""
        ...

    def velocities(self) -> np.ndarray:
        """Return rad/s, float64 [6]."""
        ...

    def torques(self) -> np.ndarray:
        """Return what the motors exert, as a share of their greatest torque in [-1, 1], float64 [6]."""
        ...

    def set_goals(self, goals: np.ndarray) -> None:
        """Set the targets of the servos, float64 [6], rad."""
        ...

    def set_torque_enabled(self, enabled: Sequence[bool]) -> None:
        """Say which motors are powered, bool [6]."""
        ...

    def advance(self, dt_s: float) -> None:
        """Let time pass."""
        ...

    def reset(self, seed: int) -> None:
        """Set up the scene of an episode."""
        ...

    def is_success(self) -> bool: ...

    def render(self, camera: str, size: tuple[int, int]) -> np.ndarray:
        """Return a picture, uint8 [Y, X, 3], of `size` (X, Y)."""
        ...


@runtime_checkable
class HandMovable(Protocol):
    """A plant whose unpowered joints can be put somewhere."""

    def move_by_hand(self, positions: np.ndarray) -> None:
        """Put the joints that are powered off somewhere, float64 [6], rad."""
        ...


@runtime_checkable
class Observable(Protocol):
    """A plant that shows its whole state."""

    def get_state(self) -> np.ndarray:
        """Return it, float64 [N]."""
        ...


class FirstOrderArm:
    """Six joints that approach their targets exponentially; powered off, they stay where a hand puts them."""

    def __init__(self, *, start: Sequence[float] = (0.0,) * 6, goal: Sequence[float] | None = None) -> None:
        self._start = np.array(start, np.float64)
        self._success_pose = None if goal is None else np.array(goal, np.float64)
        self._enabled = np.zeros(6, bool)
        self._positions = self._start.copy()
        self._goals, self._velocities = self._start.copy(), np.zeros(6)

    def positions(self) -> np.ndarray:
        return self._positions.copy()

    def velocities(self) -> np.ndarray:
        return self._velocities.copy()

    def torques(self) -> np.ndarray:
        return np.clip((self._goals - self._positions) * self._enabled, -1, 1)

    def set_goals(self, goals: np.ndarray) -> None:
        self._goals = np.array(goals, np.float64)

    def set_torque_enabled(self, enabled: Sequence[bool]) -> None:
        self._enabled = np.array(enabled, bool)

    def move_by_hand(self, positions: np.ndarray) -> None:
        self._positions = np.where(self._enabled, self._positions, positions)

    def advance(self, dt_s: float) -> None:
        step = (self._goals - self._positions) * (1 - math.exp(-dt_s / _TIME_CONSTANT_S)) * self._enabled
        step = np.clip(step, -_MAX_SPEED * dt_s, _MAX_SPEED * dt_s)
        self._velocities = step / dt_s if dt_s > 0 else np.zeros(6)
        self._positions = self._positions + step

    def reset(self, seed: int) -> None:
        noise = np.random.default_rng(seed).normal(0.0, 0.01, 6) if seed else np.zeros(6)
        self._positions = self._start + noise
        self._goals, self._velocities = self._positions.copy(), np.zeros(6)

    def is_success(self) -> bool:
        return self._success_pose is not None and bool(np.abs(self._positions - self._success_pose).max() < 0.05)

    def render(self, camera: str, size: tuple[int, int]) -> np.ndarray:
        """Return a test picture: a bar as bright and as far to the right as the first joints stand."""
        width, height = size
        shade = np.clip(128 + 40 * self._positions[:3], 0, 255).astype(np.uint8)
        picture = np.broadcast_to(shade, (height, width, 3)).copy()
        column = int(np.clip((self._positions[0] + math.pi) / (2 * math.pi), 0, 1) * (width - 1))
        picture[:, column] = (255, 255, 255) if camera == "front" else (0, 0, 0)
        return picture
