"""What a dataset holds, from meta/ and the few columns that say who acted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opentau.data.lerobot import layout
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.episode_table import default_source, numbers
from opentau.data.parquet import read_table
from opentau.types import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One camera of a dataset."""

    name: str
    shape: tuple[int, int, int]
    """(Y, X, 3)."""
    codec: str
    """Of the video, or 'images' where every frame is a file of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `opentau data info` tells."""

    path: str
    version: str
    """LeRobot's layout, for example 'v3.0'."""
    is_ours: bool
    """Whether it was recorded or exported by OpenTau."""
    dataset_id: str
    robot_type: str
    fps: float
    num_episodes: int
    num_frames: int
    hours: float
    tasks: dict[str, int]
    """Prompt to the number of episodes that have it; one with several prompts counts for each."""
    cameras: tuple[Camera, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_space: str
    outcomes: dict[str, int]
    """Episodes by how they ended."""
    sources: dict[str, int]
    """Frames by who acted."""
    bytes: int
    """On disk."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def describe(root: Path) -> Description:
    """Describe a dataset; one that cannot be read raises `DataError`."""
    dataset = Dataset(root, with_images=False)
    info, interface = dataset.catalog.info, dataset.interface
    num_frames = sum(episode.length for episode in dataset.episodes)
    return Description(
        path=str(root),
        version=info["codebase_version"],
        is_ours=dataset.catalog.is_ours,
        dataset_id=dataset.dataset_id,
        robot_type=str(info.get("robot_type") or "unknown"),
        fps=dataset.fps,
        num_episodes=len(dataset),
        num_frames=num_frames,
        hours=num_frames / dataset.fps / 3600,
        tasks=dict(Counter(task for row in dataset.catalog.rows for task in row.tasks).most_common()),
        cameras=_cameras(dataset),
        state_names=interface.state_names,
        action_names=interface.action_names,
        action_space=interface.action_space,
        outcomes=dict(Counter(str(episode.outcome) for episode in dataset.episodes).most_common()),
        sources=_sources(dataset, num_frames=num_frames),
        bytes=sum(path.stat().st_size for path in root.rglob("*") if path.is_file()),
    )


def _cameras(dataset: Dataset) -> tuple[Camera, ...]:
    features = dataset.catalog.features
    cameras = []
    for key in layout.camera_keys(features):
        name, description = layout.camera_of(key), features[key].get("info") or {}
        codec = str(description.get("video.codec", "video")) if features[key]["dtype"] == "video" else "images"
        cameras.append(Camera(name=name, shape=dataset.interface.cameras[name], codec=codec))
    return tuple(cameras)


def _sources(dataset: Dataset, *, num_frames: int) -> dict[str, int]:
    """Count frames by who acted; where no column says it, all are demonstrations."""
    features = dataset.catalog.features
    columns = [column for column in (layout.SOURCE, *layout.INTERVENTION_COLUMNS) if column in features][:1]
    if not columns:
        return {Source.DEMONSTRATION.name.lower(): num_frames}
    counts = np.zeros(len(Source), np.int64)
    for path in sorted({row.data_path for row in dataset.catalog.rows}):
        table = read_table(dataset.root / path, columns=columns, where=f"dataset {dataset.root}", fix=dataset.catalog.fix)
        source_T = numbers(table, layout.SOURCE)[:, 0] if columns == [layout.SOURCE] else default_source(table)
        counts += np.bincount(source_T.astype(np.int64), minlength=len(Source))
    return {source.name.lower(): int(counts[source]) for source in Source if counts[source]}
