"""What a finished dataset says about itself: meta/ of LeRobot v3.0, with statistics whose quantiles are those of the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from opentau.data.lerobot import layout
from opentau.data.lerobot.episode_table import numbers, prompt_runs
from opentau.data.parquet import commit_bytes, commit_table
from opentau.data.statistics import QUANTILES, DimStatistics, StreamingStatistics
from opentau.types import Interface

# Shapes: C colour channels.

STAT_COLUMNS = (
    layout.STATE,
    layout.ACTION,
    layout.EXECUTED_ACTION,
    layout.SOURCE,
    layout.REWARD,
    layout.TIMESTAMP,
    layout.FRAME_INDEX,
    layout.EPISODE_INDEX,
    layout.INDEX,
    layout.TASK_INDEX,
)
"""Columns that are numbers in every frame; policy_action and value are NaN where nobody was asked."""

PIXEL_VALUES = np.arange(256) / 255
EPISODE_KEYS = (
    "episode_id",
    "task_id",
    "outcome",
    "seed",
    "env_id",
    "policy_version",
    "num_intervention_steps",
    "digest",
    "sim_state_dim",
)
"""Constants of an episode that LeRobot has no column for."""


@dataclass(slots=True, kw_only=True)
class Collected:
    """What is gathered while the data files of a dataset are gone through in order."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """One row of meta/episodes per episode."""
    streams: dict[str, StreamingStatistics] = field(default_factory=dict)
    """Feature to its statistics so far."""
    histograms: dict[str, np.ndarray] = field(default_factory=dict)
    """Image feature to its pixel values, counts [C, 256]."""

    def add(
        self,
        table: pa.Table,
        constants: Mapping[str, Any],
        *,
        plan_index: int,
        first_frame: int,
        video_keys: Sequence[str] = (),
        fps: int = 1,
    ) -> None:
        """Take in one placed episode table; `video_keys` are the features that have a video of their own per episode."""
        stats: dict[str, Any] = {}
        for column in STAT_COLUMNS:
            rows = numbers(table, column)
            self.streams.setdefault(column, StreamingStatistics(rows.shape[1])).add(rows)
            stats |= _stats_columns(column, _plain_stats(DimStatistics.of(rows)))
        for camera, counts in constants["histograms"].items():
            column, histogram = layout.IMAGE_PREFIX + camera, np.array(counts)
            self.histograms[column] = self.histograms.get(column, 0) + histogram
            stats |= _stats_columns(column, _image_stats(histogram, num_frames=len(table)))
        videos = [_video_columns(key, plan_index, seconds=len(table) / fps) for key in video_keys]
        self.rows.append(
            {
                "episode_index": len(self.rows),
                "tasks": prompts_of(constants),
                "length": len(table),
                **_place_columns("data", plan_index),
                "dataset_from_index": first_frame,
                "dataset_to_index": first_frame + len(table),
                **{name: value for columns in videos for name, value in columns.items()},
                **{key: constants[key] for key in EPISODE_KEYS},
                **{key: constants[key] for key in (layout.LIMITS_ID,) if key in constants},
                "success": constants["outcome"] == "success",
                **stats,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
        )

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return the content of stats.json."""
        num_frames = sum(row["length"] for row in self.rows)
        images = {column: _image_stats(counts, num_frames=num_frames) for column, counts in sorted(self.histograms.items())}
        return images | {column: _plain_stats(stream.finish()) for column, stream in self.streams.items()}


def prompts_of(constants: Mapping[str, Any]) -> list[str]:
    """Return the prompts of an episode, each once, that of the episode first."""
    return list(dict.fromkeys([constants["prompt"], *(prompt for prompt, _ in prompt_runs(constants))]))


def write_meta(
    root: Path,
    collected: Collected,
    *,
    features: layout.Features,
    prompts: Sequence[str],
    subtasks: Sequence[str],
    interface: Interface,
    env_id: str,
    fps: int,
    robot_type: str,
) -> None:
    """Write meta/; info.json comes last, and its presence says that the dataset is finished."""
    info = layout.build_info(
        features,
        fps=fps,
        robot_type=robot_type,
        num_episodes=len(collected.rows),
        num_frames=collected.rows[-1]["dataset_to_index"],
        num_tasks=len(prompts),
    )
    commit_table(layout.texts_table(prompts, name="task"), root / layout.TASKS_PATH)
    if subtasks:
        commit_table(layout.texts_table(subtasks, name="subtask"), root / layout.SUBTASKS_PATH)
    commit_table(pa.Table.from_pylist(collected.rows), root / layout.EPISODES_PATH)
    commit_bytes(_json(collected.stats()), root / layout.STATS_PATH)
    commit_bytes(_json({"interface": interface.to_dict(), "env_id": env_id}), root / layout.EXTRAS_PATH)
    commit_bytes(_json(info), root / layout.INFO_PATH)


def _place_columns(prefix: str, plan_index: int) -> dict[str, int]:
    chunk, file = divmod(plan_index, layout.CHUNK_FILES)
    return {f"{prefix}/chunk_index": chunk, f"{prefix}/file_index": file}


def _video_columns(key: str, plan_index: int, *, seconds: float) -> dict[str, Any]:
    prefix = f"videos/{key}"
    return {**_place_columns(prefix, plan_index), f"{prefix}/from_timestamp": 0.0, f"{prefix}/to_timestamp": seconds}


def _plain_stats(statistics: DimStatistics) -> dict[str, Any]:
    """Return statistics under LeRobot's names."""
    plain = statistics.to_dict()
    named = {"min": plain["minimum"], "max": plain["maximum"], "mean": plain["mean"], "std": plain["std"]}
    return named | {"count": [statistics.count]} | {name: plain[name] for name in QUANTILES}


def _image_stats(histogram: np.ndarray, *, num_frames: int) -> dict[str, Any]:
    """Return LeRobot's statistics of pixels in 0..1 per channel, shaped (C, 1, 1), counted in frames."""
    plain = _plain_stats(DimStatistics.of_histogram(histogram, PIXEL_VALUES))
    nested = {name: [[[number]] for number in numbers_C] for name, numbers_C in plain.items() if name != "count"}
    return nested | {"count": [num_frames]}


def _stats_columns(feature: str, stats: Mapping[str, Any]) -> dict[str, Any]:
    return {f"stats/{feature}/{name}": value for name, value in stats.items()}


def _json(plain: Mapping[str, Any]) -> bytes:
    return (json.dumps(plain, indent=4) + "\n").encode()
