"""Drawing from a window of episodes that moves on: random enough to train on, and every frame is decoded once a pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from opentau.data.frames import FrameTable
from opentau.errors import DataError, near_matches
from opentau.types import derive_seed

# Shapes: B samples.

BY_TASK, BY_EPISODE, BY_FRAME = BALANCES = ("task", "episode", "frame")
"""What is drawn alike: tasks, and the episodes of each; episodes; or frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How many episodes are at hand, and how fast they change."""

    num_episodes: int
    """At hand at a time, over all tasks."""
    seed: int
    """Of the order in which episodes come."""
    reuse: float = 1.0
    """How often a frame is drawn, on average, while its episode is at hand."""

    def __post_init__(self) -> None:
        if self.num_episodes < 1 or self.reuse <= 0:
            raise DataError(
                f"the window holds {self.num_episodes} episodes, reuse {self.reuse}; at least one episode must fit the frame "
                "cache (raise mixture.cache_gb), and reuse must be above 0"
            )

    def part(self, share: float, name: str) -> Window:
        """Return the window of a group that makes up a share of the samples."""
        num_episodes = max(1, int(self.num_episodes * share))
        return replace(self, num_episodes=num_episodes, seed=derive_seed(self.seed, name))


def require_balance(balance: str) -> None:
    """Raise `DataError` for a balance that does not exist."""
    if balance not in BALANCES:
        raise DataError(f"unknown balance {balance!r}.{near_matches(balance, BALANCES)}")


class WindowedGroup:
    """Rows of one group, drawn by task, then from the episodes of that task that are at hand, then by frame; see `balance`.

    Every task goes through its episodes in passes, each a new permutation; an episode enters, stays while `num_at_hand` others
    follow it, and leaves. All of it is a function of (seed, samples drawn before): any batch can be asked for at any time.
    """

    def __init__(self, table: FrameTable, rows: np.ndarray, *, window: Window, balance: str = BY_TASK) -> None:
        task_of = table.task[rows] if balance == BY_TASK else np.zeros(len(rows), np.int32)
        tasks = np.unique(task_of)
        self._seed = window.seed
        self._is_by_frame = balance == BY_FRAME
        self._episodes = [np.unique(table.episode[rows[task_of == task]]) for task in tasks]
        self._num_at_hand = [min(len(members), max(1, window.num_episodes // len(tasks))) for members in self._episodes]
        order = np.lexsort((rows, table.episode[rows]))
        self._rows = rows[order]
        of_episode = table.episode[self._rows]
        self._first = np.searchsorted(of_episode, np.arange(len(table.episodes)))
        self._stop = np.searchsorted(of_episode, np.arange(len(table.episodes)), side="right")
        lengths = [(self._stop - self._first)[members].mean() for members in self._episodes]
        self._samples_per_arrival = [max(1.0, length * window.reuse * len(tasks)) for length in lengths]

    def pick(self, uniform: np.ndarray, *, num_before: int) -> np.ndarray:
        """Return one row for each of the numbers in [0, 1) [B, 3]."""
        task_B = (uniform[:, 0] * len(self._episodes)).astype(np.int64)
        rows = np.empty(len(uniform), np.int64)
        for task in np.unique(task_B):
            chosen = task_B == task
            at_hand = self.at_hand(int(task), num_before=num_before)
            episode = at_hand[self._place(at_hand, uniform[chosen, 1])]
            first, stop = self._first[episode], self._stop[episode]
            rows[chosen] = self._rows[first + (uniform[chosen, 2] * (stop - first)).astype(np.int64)]
        return rows

    def _place(self, at_hand: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return positions among the episodes at hand, all alike or by their number of frames."""
        if not self._is_by_frame:
            return (uniform * len(at_hand)).astype(np.int64)
        stops = np.cumsum(self._stop[at_hand] - self._first[at_hand])
        return np.searchsorted(stops, uniform * stops[-1], side="right")

    def at_hand(self, task: int, *, num_before: int) -> np.ndarray:
        """Return the episodes of a task that are drawn from after so many samples of the group."""
        members, count = self._episodes[task], self._num_at_hand[task]
        if count == len(members):
            return members
        arrived = int(num_before / self._samples_per_arrival[task])
        places = np.arange(arrived, arrived + count)
        passes = {number: self._pass(task, int(number)) for number in np.unique(places // len(members))}
        return np.array([passes[place // len(members)][place % len(members)] for place in places])

    def _pass(self, task: int, number: int) -> np.ndarray:
        """Return the order of a task's episodes in one pass over them."""
        rng = np.random.default_rng(derive_seed(self._seed, "pass", task, number))
        return rng.permutation(self._episodes[task])
