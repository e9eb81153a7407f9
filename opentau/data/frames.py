"""The frames of many episodes in flat arrays: what a trainer, a critic and a labeller work on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from opentau.data.cache import FrameCache
from opentau.data.cached_frames import CachedFrames
from opentau.data.images import ImageFit, resize_with_pad
from opentau.data.lerobot.dataset import Dataset
from opentau.data.resampling import Resampling
from opentau.data.statistics import DimStatistics, Statistics
from opentau.errors import DataError
from opentau.types import Episode, Outcome, Source, derive_seed

# Shapes: F frames, E episodes, S state dimensions, A action dimensions, Y and X image rows and columns.


class FrameColumn(Protocol):
    """The frames of one camera, in memory (an array) or in a cache."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, Y, X, 3)."""
        ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return uint8 [B, Y, X, 3] at rows int64 [B]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRecord:
    """One episode of a table."""

    dataset_id: str
    """`Dataset.dataset_id`; with `episode_id` it is the key of labels."""
    episode_id: str
    task_id: str
    prompt: str
    outcome: Outcome
    policy_version: str
    start: int
    """Row of its first frame."""
    length: int
    """Frames."""

    @property
    def is_success(self) -> bool:
        return self.outcome is Outcome.SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTable:
    """All frames of all episodes, one episode after another; arrays are read-only."""

    images: Mapping[str, FrameColumn]
    """Camera name to frames [F, Y, X, 3]; empty when built without images."""
    state: np.ndarray
    """float32 [F, S], raw."""
    action: np.ndarray
    """Training target, float32 [F, A], raw."""
    source: np.ndarray
    """`Source` values, int8 [F]."""
    is_held: np.ndarray
    """Frames in which nobody moved the robot, bool [F] (`Episode.is_held`)."""
    episode: np.ndarray
    """Position in `episodes`, int32 [F]."""
    tick: np.ndarray
    """Control step within the episode, int32 [F]."""
    task: np.ndarray
    """Position in `task_ids`, int32 [F]."""
    prompt: np.ndarray
    """Position in `prompts`, int32 [F]."""
    subtask: np.ndarray
    """Position in `subtasks`, int32 [F]."""
    episodes: tuple[EpisodeRecord, ...]
    task_ids: tuple[str, ...]
    """Sorted."""
    prompts: tuple[str, ...]
    """Sorted."""
    subtasks: tuple[str, ...]
    """Sorted; '' is of the frames of which nobody said what they are about."""

    def __len__(self) -> int:
        return len(self.state)

    @property
    def length(self) -> np.ndarray:
        """Frames per episode, int64 [E]."""
        return np.array([record.length for record in self.episodes])

    @property
    def start(self) -> np.ndarray:
        """First row per episode, int64 [E]."""
        return np.array([record.start for record in self.episodes])

    def statistics(self) -> Statistics:
        """Return the statistics of all states and actions of the table."""
        return Statistics(state=DimStatistics.of(self.state), action=DimStatistics.of(self.action))

    def rows_of_episodes(self, positions: Iterable[int]) -> np.ndarray:
        """Return bool [F], true in the frames of the episodes at `positions`."""
        chosen = np.zeros(len(self.episodes), bool)
        chosen[list(positions)] = True
        return chosen[self.episode]

    @classmethod
    def from_datasets(
        cls,
        datasets: Sequence[Dataset],
        *,
        cameras: Mapping[str, str] | None = None,
        image_size: int | None = None,
        image_fit: ImageFit = ImageFit.CENTRED,
        cache: FrameCache | None = None,
        resampling: Resampling | None = None,
    ) -> FrameTable:
        """Load every episode of every dataset; datasets of different cameras or dimensions raise `DataError`.

        `cameras` names the table's cameras after the datasets' ones, {"agentview": "front"}; all under their own names by
        default. Images are scaled to squares of `image_size`, the way `image_fit` says; without one they stay as they are. With
        a `cache`, which needs an `image_size`, they are decoded when they are first used; without one all are in memory.
        `resampling` brings episodes to another control rate.
        """
        lengths = [info.length for dataset in datasets for info in dataset.episodes]
        if resampling is not None:
            lengths = [len(resampling.ticks(length)) for length in lengths]
        if cache is None:
            episodes = (
                (
                    dataset.dataset_id,
                    _with_images(_at_rate(episode, resampling), cameras=cameras, image_size=image_size, image_fit=image_fit),
                )
                for dataset in datasets
                for episode in dataset
            )
            return _build(episodes, lengths=lengths)
        numbers = (
            (dataset.dataset_id, _at_rate(dataset.numbers(position), resampling))
            for dataset in datasets
            for position in range(len(dataset))
        )
        table = _build(numbers, lengths=lengths)
        if image_size is None:
            raise DataError("cached frames have one size; give image_size, the policy's")
        named = cameras if cameras is not None else {camera: camera for camera in datasets[0].interface.cameras}
        columns = {
            name: CachedFrames(
                datasets=datasets,
                camera=camera,
                image_size=image_size,
                image_fit=image_fit,
                cache=cache,
                resampling=resampling,
            )
            for name, camera in named.items()
        }
        return replace(table, images=columns)

    @classmethod
    def from_episodes(cls, episodes: Sequence[Episode], *, dataset_id: str) -> FrameTable:
        """Build from episodes in memory; cameras or dimensions that differ raise `DataError`."""
        return _build(((dataset_id, episode) for episode in episodes), lengths=[len(episode) for episode in episodes])


def _build(episodes: Iterable[tuple[str, Episode]], *, lengths: Sequence[int]) -> FrameTable:
    """Copy episodes of known lengths into arrays that are allocated once."""
    if not lengths:
        raise DataError("a frame table of no episodes; name a dataset that holds some")
    num_frames = sum(lengths)
    columns: dict[str, np.ndarray] = {}
    records: list[EpisodeRecord] = []
    prompts: list[str] = []
    subtasks: list[str] = []
    start = 0
    for dataset_id, episode in episodes:
        kept = _kept_columns(episode)
        if not records:
            columns = {name: np.empty((num_frames, *column.shape[1:]), column.dtype) for name, column in kept.items()}
        _check_same_columns(episode, kept, columns, first=records[0].episode_id if records else "")
        for name, column in kept.items():
            columns[name][start : start + len(episode)] = column
        records.append(_record(dataset_id, episode, start=start))
        prompts += episode.prompts or [episode.prompt] * len(episode)
        subtasks += episode.subtasks or [""] * len(episode)
        start += len(episode)
    task_ids = tuple(sorted({record.task_id for record in records}))
    tasks = [task_ids.index(record.task_id) for record in records]
    columns["episode"] = np.repeat(np.arange(len(records), dtype=np.int32), lengths)
    columns["task"] = np.repeat(np.array(tasks, np.int32), lengths)
    known_prompts, columns["prompt"] = _numbered(prompts)
    known_subtasks, columns["subtask"] = _numbered(subtasks)
    columns["tick"] = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    for column in columns.values():
        column.flags.writeable = False
    return FrameTable(
        images={name.removeprefix("images."): column for name, column in columns.items() if name.startswith("images.")},
        **{
            name: columns[name]
            for name in ("state", "action", "source", "is_held", "episode", "tick", "task", "prompt", "subtask")
        },
        episodes=tuple(records),
        task_ids=task_ids,
        prompts=known_prompts,
        subtasks=known_subtasks,
    )


def _numbered(texts: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the different texts, sorted, and the position among them of every frame's, int32 [F]."""
    known = tuple(sorted(set(texts)))
    number_of = {text: number for number, text in enumerate(known)}
    return known, np.array([number_of[text] for text in texts], np.int32)


def _at_rate(episode: Episode, resampling: Resampling | None) -> Episode:
    return resampling(episode) if resampling is not None else episode


def _with_images(
    episode: Episode, *, cameras: Mapping[str, str] | None, image_size: int | None, image_fit: ImageFit
) -> Episode:
    """Return the episode with the wanted cameras, named and scaled as wanted."""
    if cameras is None and image_size is None:
        return episode
    named = cameras if cameras is not None else {camera: camera for camera in episode.images}
    images = {name: episode.images[camera] for name, camera in named.items() if camera in episode.images}
    if image_size is not None:
        images = {name: resize_with_pad(frames, size=image_size, fit=image_fit) for name, frames in images.items()}
    return replace(episode, images=images)


def _kept_columns(episode: Episode) -> dict[str, np.ndarray]:
    names = ("state", "action", "source")
    kept = {name: column for name, column in episode.columns().items() if name in names or name.startswith("images.")}
    return kept | {"is_held": episode.is_held}


def _check_same_columns(episode: Episode, kept: dict[str, np.ndarray], columns: dict[str, np.ndarray], *, first: str) -> None:
    shapes = {name: column.shape[1:] for name, column in kept.items()}
    wanted = {name: column.shape[1:] for name, column in columns.items()}
    if shapes != wanted:
        raise DataError(
            f"episode {episode.episode_id} has the columns {shapes}, episode {first} {wanted}; "
            "train on datasets of one interface, recorded with the same cameras, image size, state and action"
        )


def _record(dataset_id: str, episode: Episode, *, start: int) -> EpisodeRecord:
    return EpisodeRecord(
        dataset_id=dataset_id,
        episode_id=episode.episode_id,
        task_id=episode.task_id,
        prompt=episode.prompt,
        outcome=episode.outcome,
        policy_version=episode.policy_version,
        start=start,
        length=len(episode),
    )


def episodes_held_out(table: FrameTable, *, share: float) -> np.ndarray:
    """Return which frames measure instead of train, bool [F]: whole episodes, `share` of each task and kind of episode.

    The choice rests on the episodes' ids alone, so that an update holds out the demonstrations that its start did not see.
    """
    strata: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for position, record in enumerate(table.episodes):
        strata[record.task_id, bool(table.source[record.start] == Source.DEMONSTRATION)].append(position)
    pooled: dict[bool, list[int]] = {True: [], False: []}
    groups = []
    for (_, is_demonstration), members in strata.items():
        # Tasks too small to give an episode each give some together.
        if int(share * len(members)):
            groups.append(members)
        else:
            pooled[is_demonstration] += members
    chosen: list[int] = []
    for members in (*groups, *pooled.values()):
        ranked = sorted(members, key=lambda position: derive_seed(0, "held out", table.episodes[position].episode_id))
        chosen += ranked[: int(share * len(members))]
    return table.rows_of_episodes(chosen)


def chunk_stops(table: FrameTable) -> np.ndarray:
    """Return per frame the row at which an action chunk that starts there stops, int64 [F].

    That is one past the episode or, unless the frame is an intervention itself, the next frame where somebody took over: from
    there on the actions answer other observations than the ones a policy would have seen. No chunk reaches into frames in which
    the robot was held; one that starts in such a frame has that frame alone.
    """
    is_intervention = table.source == Source.INTERVENTION
    end = (table.start + table.length)[table.episode]
    stop = np.where(is_intervention, end, np.minimum(_next_row(is_intervention), end))
    return np.where(table.is_held, np.arange(len(table)) + 1, np.minimum(stop, _next_row(table.is_held)))


def _next_row(is_marked: np.ndarray) -> np.ndarray:
    """Return per row the first marked one from there on, int64 [F]; F where there is none."""
    rows = np.where(is_marked, np.arange(len(is_marked)), len(is_marked))
    return np.minimum.accumulate(rows[::-1])[::-1]
