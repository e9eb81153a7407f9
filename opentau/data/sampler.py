"""Which frames a batch holds: groups by who acted, then task, episode and frame, so that long episodes weigh no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from opentau.data.frames import FrameTable
from opentau.data.window import BY_FRAME, BY_TASK, Window, WindowedGroup, require_balance
from opentau.errors import DataError, near_matches
from opentau.types import Indicator, Source

# Shapes: F frames, B samples.

GROUPS: Mapping[str, tuple[Source, ...]] = {
    "human": (Source.DEMONSTRATION, Source.INTERVENTION),
    "autonomous": (Source.AUTONOMOUS,),
}
EVERYTHING = "everything"
"""The one group there is without shares."""
POSITIVE, OTHER = "positive", "other"
"""The two parts of the autonomous group, where it is split by its indicators."""
EQUAL_SHARES: Mapping[str, float] = {"human": 0.5, "autonomous": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class PositiveDraw:
    """How positive autonomous frames get into a batch."""

    share: float
    """Of the autonomous samples, however rare positive frames are."""
    by_episode: bool = False
    """True draws an episode first, which gives the few positive frames of a failure as much room as those of a success."""


class FrameSampler:
    """Draw rows of a table: a group by its share, then task, episode and frame uniformly within what the group holds.

    `balance` 'episode' draws episodes alike whatever their task, 'frame' all frames alike.

    A frame's group is that of its source; an episode with interventions has frames in both groups. A group without frames
    leaves its share to the others; without shares there is one group, whoever acted. With `positives` the autonomous group is
    split by its indicators int8 [F].

    With a `window` only so many episodes are drawn from at a time (see `Window`), so that frames which have to be decoded are
    decoded once and used while they are at hand; over many draws the shares are the same.
    """

    def __init__(
        self,
        table: FrameTable,
        *,
        shares: Mapping[str, float] | None = EQUAL_SHARES,
        eligible: np.ndarray | None = None,
        indicator: np.ndarray | None = None,
        positives: PositiveDraw | None = None,
        window: Window | None = None,
        balance: str = BY_TASK,
    ) -> None:
        require_balance(balance)
        for name, share in (shares or {}).items():
            if name not in GROUPS:
                raise DataError(f"unknown group of frames {name!r}.{near_matches(name, GROUPS)}")
            if share < 0:
                raise DataError(f"the share of group {name!r} is {share}; shares are at least 0")
        allowed = np.ones(len(table), bool) if eligible is None else eligible
        rows = {name: np.flatnonzero(allowed & np.isin(table.source, GROUPS[name])) for name in GROUPS}
        if shares is None:
            rows = {EVERYTHING: np.flatnonzero(allowed)}
        shares = {EVERYTHING: 1.0} if shares is None else dict(shares)
        if positives is not None and indicator is not None:
            _split_autonomous(rows, shares, is_positive=indicator == Indicator.POSITIVE, positive_share=positives.share)
        held = {name: shares[name] for name in shares if shares[name] and len(rows[name])}
        if not held:
            counts = {name: len(group) for name, group in rows.items()}
            raise DataError(
                f"no frames to draw from: the groups hold {counts}, their shares are {dict(shares)}; add episodes or shares"
            )
        is_flat = {POSITIVE} if positives is not None and not positives.by_episode else set[str]()
        self._shares = np.array(list(held.values())) / sum(held.values())
        self._cumulative = np.cumsum(self._shares)
        self._groups = [
            _Group(table, rows[name], by_episode=name not in is_flat, balance=balance)
            if window is None
            else WindowedGroup(table, rows[name], window=window.part(share, name), balance=balance)
            for name, share in zip(held, self._shares, strict=True)
        ]

    def draw(self, num_samples: int, rng: np.random.Generator, *, num_before: int = 0) -> np.ndarray:
        """Return rows int64 [B]; group counts are shares of B rounded up or down, in random order.

        `num_before` samples were drawn before; with a window they say which episodes are at hand.
        """
        levels = rng.permutation((np.arange(num_samples) + rng.random()) / num_samples)
        group = np.minimum(np.searchsorted(self._cumulative, levels, side="right"), len(self._groups) - 1)
        uniform = rng.random((num_samples, 3))
        rows = np.empty(num_samples, np.int64)
        for position, members in enumerate(self._groups):
            before = int(self._shares[position] * num_before)
            rows[group == position] = members.pick(uniform[group == position], num_before=before)
        return rows


class _Group:
    """Rows of one group in nested ranges: tasks hold episodes, episodes hold rows; or tasks hold rows."""

    def __init__(self, table: FrameTable, rows: np.ndarray, *, by_episode: bool, balance: str) -> None:
        task = table.task if balance == BY_TASK else np.zeros_like(table.task)
        order = np.lexsort((rows, table.episode[rows], task[rows]))
        self._rows = rows[order]
        episode_starts = _starts((table.episode if by_episode and balance != BY_FRAME else task)[self._rows])
        self._episodes = np.append(episode_starts, len(rows))
        task_starts = _starts(task[self._rows[episode_starts]])
        self._tasks = np.append(task_starts, len(episode_starts))

    def pick(self, uniform: np.ndarray, *, num_before: int) -> np.ndarray:
        """Return one row for each of the numbers in [0, 1) [B, 3], whatever was drawn before."""
        task = _scale(uniform[:, 0], 0, len(self._tasks) - 1)
        episode = _scale(uniform[:, 1], self._tasks[task], self._tasks[task + 1])
        return self._rows[_scale(uniform[:, 2], self._episodes[episode], self._episodes[episode + 1])]


def _split_autonomous(
    rows: dict[str, np.ndarray], shares: dict[str, float], *, is_positive: np.ndarray, positive_share: float
) -> None:
    """Replace the autonomous group by its positive and its other frames, where it has both."""
    members = rows["autonomous"]
    parts = {POSITIVE: members[is_positive[members]], OTHER: members[~is_positive[members]]}
    if all(map(len, parts.values())) and "autonomous" in shares:
        share = shares.pop("autonomous")
        shares.update({POSITIVE: positive_share * share, OTHER: (1 - positive_share) * share})
        rows.update(parts)


def _starts(sorted_ids: np.ndarray) -> np.ndarray:
    """Return where a new id begins in ids that lie together."""
    return np.flatnonzero(np.append(True, sorted_ids[1:] != sorted_ids[:-1]))


def _scale(uniform: np.ndarray, low: np.ndarray | int, high: np.ndarray | int) -> np.ndarray:
    """Return whole numbers in [low, high) from numbers in [0, 1)."""
    return low + (uniform * (np.asarray(high) - low)).astype(np.int64)
