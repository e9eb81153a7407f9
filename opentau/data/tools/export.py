"""A cleaned copy of a dataset in LeRobot's v3.0 layout: chosen episodes, smaller images, other camera names."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from opentau.checkpoint import partial_path, storage_errors
from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import read_json
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.episode_table import numbers
from opentau.data.lerobot.writer import DatasetWriter
from opentau.data.parquet import read_rows
from opentau.data.tools.check_rows import irregular_frames
from opentau.data.tools.findings import Progress
from opentau.errors import DataError, OptionError, StorageError, near_matches
from opentau.types import Episode, Interface

# Shapes: T frames, Y and X image rows and columns.

MAX_IMAGE_SIDE = 128
"""Larger cameras become video: as PNG they would fill disks, below it they load faster than video and lose nothing."""
READ_ANYWAY = (*layout.OUR_COLUMNS, layout.SUCCESS, *layout.INTERVENTION_COLUMNS)
"""Columns whose meaning the copy keeps, in our columns and in meta/."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to keep and how."""

    episodes: Sequence[int] | None = None
    """By `episode_index`, in the order of the copy; None keeps all."""
    exclude: Sequence[int] = ()
    only_successes: bool = False
    image_size: int | None = None
    """Longer side of the images, pixels; smaller cameras are not enlarged. None keeps sizes."""
    camera_names: Mapping[str, str] = field(default_factory=dict)
    """New name by old one."""

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 8:
            raise OptionError(f"--image-size is {self.image_size}; images need at least 8 pixels on their longer side")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export made."""

    path: str
    num_episodes: int
    num_frames: int
    video_cameras: tuple[str, ...]
    """Cameras stored as video; the others are exact."""
    dropped_columns: tuple[str, ...]
    """Columns of the original that the copy does not have."""
    retimed_episodes: tuple[int, ...]
    """Episodes whose timestamps were not frame_index / fps; the copy's are."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def export(root: Path, out: Path, *, options: ExportOptions, on_episode: Progress) -> Exported:
    """Write the copy; `out` exists when it is complete, and nothing of it is left when it fails.

    An episode that cannot be read raises `DataError`, a full disk `StorageError`, an option that does not fit `OptionError`.
    """
    if out.exists():
        raise OptionError(f"{out} exists; choose another folder, or delete it")
    dataset = Dataset(root, episodes=_chosen(Dataset(root, with_images=False), options))
    interface = _interface(dataset.interface, options)
    videos = tuple(camera for camera, shape in interface.cameras.items() if is_video(shape))
    partial = partial_path(out)
    if partial.exists():
        shutil.rmtree(partial)
    writer = DatasetWriter(
        partial,
        interface=interface,
        fps=dataset.fps,
        robot_type=str(dataset.catalog.info.get("robot_type") or "unknown"),
        env_id=_env_id(dataset),
        video_cameras=videos,
    )
    try:
        retimed = _copy(dataset, writer, options, on_episode)
        with storage_errors(out):
            os.replace(partial, out)
    except StorageError as error:
        raise StorageError(f"{error.__cause__ or error}: {out} was not written. Free some space and export again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(
        path=str(out),
        num_episodes=len(dataset),
        num_frames=sum(info.length for info in dataset.episodes),
        video_cameras=videos,
        dropped_columns=_dropped(dataset),
        retimed_episodes=retimed,
    )


def _copy(dataset: Dataset, writer: DatasetWriter, options: ExportOptions, on_episode: Progress) -> tuple[int, ...]:
    """Copy every episode and finish the dataset; return the episodes whose times were not regular."""
    retimed = []
    for position, info in enumerate(dataset.episodes):
        try:
            episode = dataset.load(position)
            writer.add(position, _changed(episode, options))
        except DataError as error:
            raise DataError(f"{error} To export the others: --exclude {info.index}.") from error
        if not _is_regular(dataset, position):
            retimed.append(info.index)
        on_episode(position + 1, len(dataset))
    writer.finish()
    return tuple(retimed)


def _chosen(dataset: Dataset, options: ExportOptions) -> list[int]:
    """Return which episodes to copy, by `episode_index`; none at all is an `OptionError`."""
    infos = dataset.episodes
    unknown = [index for index in (*(options.episodes or ()), *options.exclude) if not 0 <= index < len(infos)]
    if unknown:
        raise OptionError(f"there is no episode {unknown[0]}; the dataset has the episodes 0 to {len(infos) - 1}")
    wanted = range(len(infos)) if options.episodes is None else options.episodes
    kept = [index for index in wanted if index not in set(options.exclude)]
    kept = [index for index in kept if infos[index].is_success or not options.only_successes]
    if not kept:
        raise OptionError(f"no episode of {dataset.root} is left to export; choose others, or exclude fewer")
    return kept


def _interface(interface: Interface, options: ExportOptions) -> Interface:
    """Return the interface with the cameras' new names and sizes."""
    for old in options.camera_names:
        if old not in interface.cameras:
            raise OptionError(f"there is no camera {old!r} to rename.{near_matches(old, interface.cameras)}")
    names = [options.camera_names.get(camera, camera) for camera in interface.cameras]
    if len(set(names)) != len(names):
        raise OptionError(f"two cameras would have one name: {', '.join(sorted(names))}; rename both, or choose another name")
    if not interface.action_names:
        raise DataError("the dataset has no actions; there is nothing to learn from it")
    if not interface.state_names:
        raise DataError(f"the dataset has no {layout.STATE}, which the layout of the copy needs")
    sizes = [_size(shape, options.image_size) for shape in interface.cameras.values()]
    return dataclasses.replace(interface, cameras=dict(zip(names, sizes, strict=True)))


def _size(shape: Sequence[int], image_size: int | None) -> tuple[int, int, int]:
    """Return (Y, X, 3) with the longer side at most `image_size`, the shape kept, and both even as video needs them."""
    height, width, channels = shape
    longer = max(height, width)
    if image_size is None or longer <= image_size:
        return height, width, channels
    scaled = (max(2, 2 * round(side * image_size / longer / 2)) for side in (height, width))
    return (*scaled, channels)  # type: ignore[return-value]  # two sides and the channels


def is_video(shape: Sequence[int]) -> bool:
    """Return whether images [Y, X, 3] of a camera are stored as video."""
    height, width = shape[:2]
    return max(height, width) > MAX_IMAGE_SIDE and height % 2 == 0 and width % 2 == 0


def _changed(episode: Episode, options: ExportOptions) -> Episode:
    images = {}
    for camera, frames in episode.images.items():
        size = _size(frames.shape[1:], options.image_size)
        images[options.camera_names.get(camera, camera)] = _resized(frames, size)
    return dataclasses.replace(episode, images=images)


def _resized(frames: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Return frames uint8 [T, Y, X, 3] in a smaller size."""
    if frames.shape[1:] == size:
        return frames
    height, width, _ = size
    small = [Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames]
    return np.stack([np.asarray(image) for image in small])


def _is_regular(dataset: Dataset, position: int) -> bool:
    """Return whether the timestamps of an episode are frame_index / fps, as LeRobot needs them and the copy writes them."""
    row = dataset.catalog.rows[dataset.episodes[position].index]
    table = read_rows(
        dataset.root / row.data_path,
        columns=[layout.TIMESTAMP],
        key=layout.EPISODE_INDEX,
        value=row.index,
        where=dataset.where(position),
        fix=dataset.catalog.fix,
    )
    return not len(irregular_frames(numbers(table, layout.TIMESTAMP)[:, 0].astype(np.float64), fps=dataset.fps))


def _env_id(dataset: Dataset) -> str:
    if not dataset.catalog.is_ours:
        return ""
    return str(read_json(dataset.root / layout.EXTRAS_PATH, where=f"dataset {dataset.root}")["env_id"])


def _dropped(dataset: Dataset) -> tuple[str, ...]:
    features = dataset.catalog.features
    told = {layout.SUBTASK_INDEX} if dataset.catalog.subtasks else set[str]()
    kept = {*READ_ANYWAY, *layout.COUNTERS, *told, *layout.camera_keys(features)}
    return tuple(sorted(set(features) - kept))
