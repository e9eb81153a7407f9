"""How chunks follow each other: the choice of a mode, cross-fading, the measured delay, and how rough the seams are."""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from opentau.errors import OptionError, near_matches
from robot_bridge.playing.report import Seams

# Shapes: n overlapping control ticks, A action dimensions.


class Mode(enum.StrEnum):
    """What becomes of the last chunk when the next one arrives."""

    TRAINED = "trained"
    """The actions that play until then are sent along; the policy was trained to continue them (arXiv:2512.05964)."""
    GUIDED = "guided"
    """The same; the server guides any policy to continue them (`inference.committed=guided`, arXiv:2506.07339)."""
    BLEND = "blend"
    """Nothing is sent along; the old chunk fades into the new one over the ticks that both have actions for."""
    NAIVE = "naive"
    """Nothing is sent along; the new chunk is switched to at once."""
    HOLD = "hold"
    """A chunk is asked for when the last one is played, and the robot holds until it is there."""


LINEAR, EXPONENTIAL = "linear", "exponential"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkingOptions:
    """How chunks follow each other."""

    mode: str = "trained"
    """'trained', 'guided', 'blend', 'naive' or 'hold'."""
    fade: str = LINEAR
    """How 'blend' fades: 'linear', or 'exponential' (the soft mask of real-time chunking, arXiv:2506.07339, equation 5)."""
    max_prefix: int | None = None
    """Most committed actions that the policy continues (its `policy.max_committed`); with a longer delay the robot holds."""
    num_warm_up: int = 2
    """Chunks at the start of a link whose delay is not measured: a server's first answers take longer than all others."""

    def __post_init__(self) -> None:
        modes = [mode.value for mode in Mode]
        if self.mode not in modes:
            raise OptionError(f"chunking.mode is {self.mode!r}; use {', '.join(modes)}.{near_matches(self.mode, modes)}")
        if self.fade not in (LINEAR, EXPONENTIAL):
            raise OptionError(f"chunking.fade is {self.fade!r}; use {LINEAR!r} or {EXPONENTIAL!r}")
        if self.num_warm_up < 0 or (self.max_prefix is not None and self.max_prefix < 0):
            raise OptionError("chunking.num_warm_up and chunking.max_prefix must be 0 or more")

    @property
    def sends_prefix(self) -> bool:
        return self.mode in (Mode.TRAINED, Mode.GUIDED)


def require_bridgeable(delay_ticks: int, *, execute_horizon: int, chunking: ChunkingOptions | None) -> None:
    """Raise `OptionError` for a delay that is negative, or longer than what a chunk plays where no mode was chosen."""
    if delay_ticks < 0:
        raise OptionError(f"delay_ticks is {delay_ticks}; it must be 0 or more")
    if chunking is None and delay_ticks >= execute_horizon:
        raise OptionError(
            f"delay_ticks is {delay_ticks} and execute_horizon {execute_horizon}; the delay must be shorter than what a chunk "
            "plays: raise execute_horizon, or choose a `chunking.mode`, and the robot holds while it waits"
        )


def num_needed(delay_ticks: int, *, execute_horizon: int, chunking: ChunkingOptions | None) -> int:
    """Return the actions that a chunk must have: what is played of it and, where no mode was chosen, the delay before that."""
    return execute_horizon + (delay_ticks if chunking is None else 0)


def longest_bridged(*, execute_horizon: int, action_horizon: int | None, chunking: ChunkingOptions) -> int:
    """Return the longest delay that a chunk's predecessor bridges, in ticks; `action_horizon` None: not known yet."""
    longest = execute_horizon
    if action_horizon is not None:
        longest = min(longest, action_horizon - execute_horizon)
    if chunking.sends_prefix and chunking.max_prefix is not None:
        longest = min(longest, chunking.max_prefix)
    return longest


def num_committed(delay_ticks: int, *, execute_horizon: int, action_horizon: int, chunking: ChunkingOptions | None) -> int:
    """Return how many committed actions requests will bring; 0 where none are sent, or the robot holds instead."""
    chunking = chunking or ChunkingOptions()
    longest = longest_bridged(execute_horizon=execute_horizon, action_horizon=action_horizon, chunking=chunking)
    return delay_ticks if chunking.sends_prefix and delay_ticks <= longest else 0


def held(action: np.ndarray, *, is_step: np.ndarray) -> np.ndarray:
    """Return the action that keeps a robot where `action` brought it, float32 [A]: targets again, no further steps."""
    return np.where(is_step, np.float32(0.0), action).astype(np.float32)


def old_weights(num_ticks: int, *, fade: str) -> np.ndarray:
    """Return what the old chunk weighs in each of n overlapping ticks, falling from below 1 to above 0, float32 [n, 1]."""
    remaining = 1.0 - np.arange(1, num_ticks + 1) / (num_ticks + 1)
    if fade == EXPONENTIAL:
        remaining = remaining * np.expm1(remaining) / math.expm1(1.0)
    return remaining.astype(np.float32)[:, None]


class DelayEstimate:
    """The delay to reckon with, in control ticks: the 95th percentile of the last measured ones, rounded up."""

    WINDOW = 50

    def __init__(self, *, start_ticks: int, num_warm_up: int) -> None:
        """`start_ticks` holds until something is measured."""
        self._start_ticks = start_ticks
        self._num_warm_up = num_warm_up
        self._measured: deque[int] = deque(maxlen=self.WINDOW)

    def add(self, ticks: int) -> None:
        """Take in how many control ticks a reply took."""
        if self._num_warm_up:
            self._num_warm_up -= 1
            return
        self._measured.append(ticks)

    @property
    def ticks(self) -> int:
        return math.ceil(np.percentile(self._measured, 95)) if self._measured else self._start_ticks


class SeamMeter:
    """Measure Euclidean norms of the first and second differences of what is asked of the robot, tick by tick."""

    def __init__(self) -> None:
        self._recent: deque[tuple[np.ndarray, int]] = deque(maxlen=3)
        self._num_seams = 0
        self._at_seam, self._within = [0.0, 0.0], [0.0, 0.0]

    def add(self, action: np.ndarray, *, chunk: int) -> None:
        """Take in the action of the next tick and the number of the chunk that it comes from; negative for holding."""
        self._recent.append((np.asarray(action, np.float64), chunk))
        actions, chunks = [each for each, _ in self._recent], [number for _, number in self._recent]
        self._num_seams += len(chunks) > 1 and chunks[-1] != chunks[-2]
        for order in (1, 2):
            if len(actions) > order:
                size = float(np.linalg.norm(np.diff(np.stack(actions[-order - 1 :]), n=order, axis=0)))
                kind = self._within if len(set(chunks[-order - 1 :])) == 1 else self._at_seam
                kind[order - 1] = max(kind[order - 1], size)

    def cut(self) -> None:
        """Begin anew: what follows was not planned as a continuation (somebody else acted)."""
        self._recent.clear()

    def seams(self) -> Seams:
        velocity, acceleration = (
            seam / within if within else None for seam, within in zip(self._at_seam, self._within, strict=True)
        )
        return Seams(num_seams=self._num_seams, velocity_ratio=velocity, acceleration_ratio=acceleration)
