"""Drawing from a window of episodes that moves on: random enough to train on, and every frame is decoded once a pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from opentau.data.frames import FrameTable
from opentau.errors import DataError, near_matches
from opentau.types import derive_seed

# Shapes: B samples, E episodes of a group, W places of a window.

BY_TASK, BY_EPISODE, BY_FRAME = BALANCES = ("task", "episode", "frame")
"""What is drawn alike: tasks, and the episodes of each; episodes; or frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How many episodes are at hand, and how fast they change."""

    num_episodes: int
    """At hand at a time."""
    seed: int
    """Of the order in which episodes come."""
    reuse: float = 1.0
    """How often a frame is drawn in a pass, on average over all frames."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """One pass over all episodes: dealt to the places of the window, each of which goes through its own, one at a time."""

    members: tuple[np.ndarray, ...]
    """Per place its episodes, positions in the group, in order."""
    ends: tuple[np.ndarray, ...]
    """Per place and episode the weight of it and of those before it."""
    phases: np.ndarray
    """Where in its weight a place begins, so that places change at different times, float64 [W]."""
    cumulative: np.ndarray
    """Weight of each place and of those before it, float64 [W]; the last is 1."""

    def at_hand(self, progress: float) -> np.ndarray:
        """Return the episode at each place after this share of the pass, int64 [W]."""
        chosen = []
        for members, ends, phase in zip(self.members, self.ends, self.phases, strict=True):
            weight = (progress * ends[-1] + phase) % ends[-1]
            chosen.append(members[min(int(np.searchsorted(ends, weight, side="right")), len(members) - 1)])
        return np.array(chosen)


class WindowedGroup:
    """Rows of one group, drawn from the episodes that are at hand; over a pass every episode gets exactly its share.

    The share of an episode (see `balance`) decides how long it stays. All of it is a function of (seed, samples drawn before):
    any batch can be asked for at any time. Where the window holds all episodes they are all at hand.
    """

    def __init__(self, table: FrameTable, rows: np.ndarray, *, window: Window, balance: str = BY_TASK) -> None:
        order = np.lexsort((rows, table.episode[rows]))
        self._rows = rows[order]
        episodes, self._first = np.unique(table.episode[self._rows], return_index=True)
        self._length = np.diff(np.append(self._first, len(rows)))
        self._weight = _weights(table.task[self._rows[self._first]], self._length, balance)
        self._seed = window.seed
        self._samples_per_pass = max(1.0, len(rows) * window.reuse)
        self._num_places = min(len(episodes), window.num_episodes)
        self._passes: dict[int, _Pass] = {}

    def pick(self, uniform: np.ndarray, *, num_before: int) -> np.ndarray:
        """Return one row for each of the numbers in [0, 1) [B, 3]."""
        if self._num_places == len(self._length):
            cumulative, at_hand = np.cumsum(self._weight), np.arange(len(self._length))
        else:
            current, progress = self._position(num_before)
            cumulative, at_hand = current.cumulative, current.at_hand(progress)
        place_B = np.minimum(np.searchsorted(cumulative, uniform[:, 0], side="right"), len(at_hand) - 1)
        episode_B = at_hand[place_B]
        return self._rows[self._first[episode_B] + (uniform[:, 2] * self._length[episode_B]).astype(np.int64)]

    def _position(self, num_before: int) -> tuple[_Pass, float]:
        """Return the pass after so many samples, and how much of it is over."""
        number, progress = divmod(num_before / self._samples_per_pass, 1.0)
        if int(number) not in self._passes:
            self._passes = {int(number): self._dealt(int(number))}
        return self._passes[int(number)], progress

    def _dealt(self, number: int) -> _Pass:
        rng = np.random.default_rng(derive_seed(self._seed, "pass", number))
        dealt = rng.permutation(len(self._length))
        members = tuple(dealt[place :: self._num_places] for place in range(self._num_places))
        ends = tuple(np.cumsum(self._weight[episodes]) for episodes in members)
        weights = np.array([end[-1] for end in ends])
        return _Pass(members=members, ends=ends, phases=rng.random(self._num_places) * weights, cumulative=np.cumsum(weights))


def _weights(task_E: np.ndarray, length_E: np.ndarray, balance: str) -> np.ndarray:
    """Return the share of every episode, float64 [E], 1 in all."""
    if balance == BY_FRAME:
        return length_E / length_E.sum()
    if balance == BY_EPISODE:
        return np.full(len(length_E), 1 / len(length_E))
    _, task_number_E, counts = np.unique(task_E, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[task_number_E])
