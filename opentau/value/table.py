"""The episodes of a value stage: their frames, their outcomes on the critic's scale, and their folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from opentau.data.frames import EpisodeRecord, FrameTable
from opentau.errors import DataError
from opentau.types import Source, derive_seed
from opentau.value.advantages import episode_advantages
from opentau.value.options import TAKEOVER_FAIL
from opentau.value.returns import episode_returns, is_taken_over, step_cost, takeovers

# Shapes: F frames, E episodes, T frames of one episode.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstraps:
    """Where n-step returns take their value from."""

    row: np.ndarray
    """The frame n steps ahead, int64 [F]; a frame's own where its return is known."""
    paid: np.ndarray
    """What the steps up to it cost, float32 [F]."""
    is_known: np.ndarray
    """Frames whose return needs no value, bool [F]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTable:
    """A frame table and the time that its tasks give; all arrays are in the table's order."""

    table: FrameTable
    max_steps: Mapping[str, int]
    """Task to the control steps after which its episodes end (T_max)."""

    def __post_init__(self) -> None:
        missing = sorted(set(self.table.task_ids) - set(self.max_steps))
        if missing:
            raise DataError(f"max_steps says nothing about task {missing[0]!r}; name the control steps after which it ends")

    @property
    def episodes(self) -> tuple[EpisodeRecord, ...]:
        return self.table.episodes

    @property
    def tasks(self) -> np.ndarray:
        """Task of each episode, str [E]."""
        return np.array([record.task_id for record in self.episodes])

    @property
    def is_success(self) -> np.ndarray:
        """How each episode ended, bool [E]; timeouts and whatever else is no success are failures."""
        return np.array([record.is_success for record in self.episodes])

    @property
    def is_demonstration(self) -> np.ndarray:
        """Whether each episode is the expert's from the start, bool [E]."""
        return self.table.source[self.table.start] == Source.DEMONSTRATION

    @property
    def is_autonomous(self) -> np.ndarray:
        """Whether the policy commanded each frame, bool [F]."""
        return self.table.source == Source.AUTONOMOUS

    def rows(self, record: EpisodeRecord) -> slice:
        """Return where an episode's frames are."""
        return slice(record.start, record.start + record.length)

    def returns(self, *, takeover: str) -> np.ndarray:
        """Return R of every frame, float32 [F]."""

        def of_episode(record: EpisodeRecord) -> np.ndarray:
            source, max_steps = self.table.source[self.rows(record)], self.max_steps[record.task_id]
            return episode_returns(source, is_success=record.is_success, max_steps=max_steps, takeover=takeover)

        return self._per_episode(of_episode)

    def advantages(self, values: np.ndarray, *, lookahead: int | None, takeover: str) -> np.ndarray:
        """Return A of every frame, float32 [F], from values float32 [F]; None looks to the end of the episode.

        Values that are not one a frame raise `DataError`.
        """
        self.require_values(values)

        def of_episode(record: EpisodeRecord) -> np.ndarray:
            rows = self.rows(record)
            return episode_advantages(
                values[rows],
                source=self.table.source[rows],
                is_success=record.is_success,
                max_steps=self.max_steps[record.task_id],
                lookahead=lookahead,
                takeover=takeover,
            )

        return self._per_episode(of_episode)

    def require_values(self, values: np.ndarray) -> None:
        """Raise `DataError` unless there is one value a frame."""
        if values.shape != (len(self.table),):
            raise DataError(f"{len(values)} values for {len(self.table)} frames; fit the critic again on these episodes")

    def bootstraps(self, num_steps: int, *, takeover: str) -> Bootstraps:
        """Return where the n-step returns of all frames go on from.

        Known are those whose window reaches the end of the episode or, with `takeover='fail'`, a takeover; with 'actual' a
        window ends at a takeover with the value there, as that of an advantage does.
        """
        count = len(self.table)
        row, paid, is_known = np.arange(count), np.zeros(count, np.float32), np.ones(count, bool)
        for record in self.episodes:
            rows = self.rows(record)
            ticks = np.arange(record.length)
            ends, is_over = ticks + num_steps, ticks + num_steps >= record.length
            for tick in takeovers(self.table.source[rows])[::-1]:
                meets = (ticks < tick) & (tick <= ticks + num_steps)
                ends = np.where(meets, tick, ends)
                is_over = np.where(meets, takeover == TAKEOVER_FAIL, is_over)
            row[rows] = record.start + np.where(is_over, ticks, ends)
            paid[rows] = np.where(is_over, 0, ends - ticks) * step_cost(self.max_steps[record.task_id])
            is_known[rows] = is_over
        return Bootstraps(row=row, paid=paid, is_known=is_known)

    def _per_episode(self, of_episode: Callable[[EpisodeRecord], np.ndarray]) -> np.ndarray:
        return np.concatenate([of_episode(record) for record in self.episodes])

    def led_to_success(self) -> np.ndarray:
        """Return the frames of successful episodes but for stretches that ended in a takeover, bool [F]."""

        def of_episode(record: EpisodeRecord) -> np.ndarray:
            return record.is_success & ~is_taken_over(self.table.source[self.rows(record)])

        return self._per_episode(of_episode)

    def attempts(self, *, takeover: str) -> tuple[np.ndarray, np.ndarray]:
        """Return which frames are the policy's first attempt, bool [F], and which attempts succeeded, bool [E].

        An attempt ends where the expert takes over; with `takeover='fail'` it has failed then, else it ends as the episode.
        """
        is_attempt, is_success = self.is_autonomous.copy(), self.is_success
        for position, record in enumerate(self.episodes):
            ticks = takeovers(self.table.source[self.rows(record)])
            if len(ticks):
                is_attempt[record.start + int(ticks[0]) : record.start + record.length] = False
                is_success[position] &= takeover != TAKEOVER_FAIL
        return is_attempt, is_success


def assign_folds(frames: ValueTable, *, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of every episode, int64 [E]: each task, kind and outcome spread evenly, in an order drawn by seed."""
    if len(frames.episodes) < num_folds:
        raise DataError(f"{len(frames.episodes)} episodes cannot be split into value.fit.num_folds={num_folds}; collect more")
    strata: dict[tuple[str, bool, bool], list[int]] = defaultdict(list)
    kinds = zip(frames.tasks, frames.is_demonstration, frames.is_success, strict=True)
    for position, (task, is_demonstration, is_success) in enumerate(kinds):
        strata[str(task), bool(is_demonstration), bool(is_success)].append(position)
    folds, dealt = np.zeros(len(frames.episodes), dtype=np.int64), 0
    for stratum in sorted(strata):
        rng = np.random.default_rng(derive_seed(seed, "folds", *map(str, stratum)))
        for position in rng.permutation(strata[stratum]):
            folds[position] = dealt % num_folds
            dealt += 1
    return folds
