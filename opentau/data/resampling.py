"""Episodes at another control rate: targets are interpolated, steps are summed up, pictures are the nearest ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from opentau.errors import DataError
from opentau.types import Episode, Interface

# Shapes: T frames before, N frames after, A action dimensions.

ACTION_SPACES = ("delta_ee", "absolute_ee", "delta_joint", "absolute_joint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """From one rate to another."""

    from_hz: float
    to_hz: float
    is_delta: tuple[bool, ...]
    """Per action dimension, whether it is a step (added up) or a target (interpolated); one of two values is never a step."""

    @classmethod
    def of(cls, interface: Interface, *, to_hz: float) -> Resampling:
        """Return the resampling of what an interface records; its action space must be known."""
        if interface.action_space not in ACTION_SPACES:
            raise DataError(
                f"the action space of the data is {interface.action_space!r}, so that its rate cannot be changed from "
                f"{interface.control_hz:g} to {to_hz:g} Hz; set action_space to {', '.join(ACTION_SPACES)}"
            )
        if to_hz <= 0:
            raise DataError(f"control_hz is {to_hz}; it must be above 0")
        return cls(from_hz=interface.control_hz, to_hz=to_hz, is_delta=interface.is_step)

    def ticks(self, length: int) -> np.ndarray:
        """Return the recorded frame nearest to each frame of the new rate, int64 [N]."""
        return np.minimum(np.rint(self._times(length)), length - 1).astype(np.int64)

    def __call__(self, episode: Episode) -> Episode:
        """Return the episode at the new rate; columns that are neither state nor action are those of the nearest frame."""
        length = len(episode)
        time_N, tick_N = self._times(length), self.ticks(length)
        columns = {name: column[tick_N] for name, column in episode.columns().items() if not name.startswith("images.")}
        columns["state"] = _interpolated(episode.state, time_N)
        for name in ("action", "executed_action"):
            columns[name] = self._actions(getattr(episode, name), time_N, tick_N)
        columns["reward"] = self._rewards(episode.reward, len(tick_N))
        robot = {name: columns.pop(name) for name in episode.robot}
        return replace(
            episode,
            images={camera: pixels[tick_N] for camera, pixels in episode.images.items()},
            prompts=tuple(episode.prompts[tick] for tick in tick_N) if episode.prompts else (),
            subtasks=tuple(episode.subtasks[tick] for tick in tick_N) if episode.subtasks else (),
            robot=robot,
            **columns,
        )

    def _times(self, length: int) -> np.ndarray:
        """Return when the new frames are, in recorded frames, float64 [N]."""
        count = math.ceil(length * self.to_hz / self.from_hz * (1 - 1e-9))
        return np.arange(count) * (self.from_hz / self.to_hz)

    def _rewards(self, reward: np.ndarray, count: int) -> np.ndarray:
        """Return float32 [N]: a reward, which is earned as its frame ends, goes to the new frame that this falls into."""
        ends_T = np.arange(1, len(reward) + 1) * (self.to_hz / self.from_hz)
        frame_T = np.minimum(np.ceil(ends_T * (1 - 1e-9)).astype(np.int64) - 1, count - 1)
        return np.bincount(frame_T, weights=reward, minlength=count).astype(np.float32)

    def _actions(self, action: np.ndarray, time_N: np.ndarray, tick_N: np.ndarray) -> np.ndarray:
        """Return float32 [N, A]: steps cover the time to the next new frame, targets are those of the moment."""
        stop_N = np.minimum(time_N + self.from_hz / self.to_hz, len(action))
        travelled = np.concatenate([np.zeros((1, action.shape[1])), np.cumsum(action.astype(np.float64), axis=0)])
        steps = _interpolated(travelled, stop_N) - _interpolated(travelled, time_N)
        is_binary = np.array([len(np.unique(column)) <= 2 for column in action.T])
        targets = np.where(is_binary, action[tick_N], _interpolated(action, time_N))
        return np.where(np.array(self.is_delta) & ~is_binary, steps, targets).astype(np.float32)


def _interpolated(rows: np.ndarray, time_N: np.ndarray) -> np.ndarray:
    """Return rows [T, D] at fractional positions, linear between them, [N, D] of the dtype of the rows."""
    low = np.minimum(time_N.astype(np.int64), len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    share = (time_N - low)[:, None]
    return (rows[low] * (1 - share) + rows[high] * share).astype(rows.dtype)
