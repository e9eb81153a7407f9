"""What a critic said about each frame, kept beside the data in sealed directories and keyed by dataset, episode and frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from opentau.checkpoint import building, read_manifest
from opentau.data.frames import FrameTable
from opentau.data.parquet import commit_table, read_table
from opentau.errors import DataError

# Shapes: F frames, E episodes.

LABELS_FILE = "labels.parquet"
LABELS_FOLDER, LABELLING_FILE = "labels", "labelling.json"
"""Of a stage that labels: the sealed directory, and thresholds with notes."""
COLUMNS = {"return": "returns", "value": "values", "advantage": "advantages", "indicator": "indicator", "weight": "weight"}
"""Column of the file to field of `Labels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of all frames of some episodes, one episode after another."""

    keys: tuple[tuple[str, str], ...]
    """(dataset_id, episode_id) per episode."""
    lengths: tuple[int, ...]
    """Frames per episode."""
    returns: np.ndarray
    """Normalised return, float32 [F]."""
    values: np.ndarray
    """Out-of-fold value, float32 [F]."""
    advantages: np.ndarray
    """float32 [F]."""
    indicator: np.ndarray
    """`Indicator` values, int8 [F]."""
    weight: np.ndarray
    """Weight of the frame's loss, float32 [F]; frames of weight 0 are not learned from."""

    def __post_init__(self) -> None:
        if not self.keys or len(set(self.keys)) != len(self.keys):
            raise DataError(
                f"labels are of {len(self.keys)} episodes, {len(set(self.keys))} different ones; name each one once"
            )
        for column, field in COLUMNS.items():
            if getattr(self, field).shape != (sum(self.lengths),):
                raise DataError(f"labels of {sum(self.lengths)} frames have {getattr(self, field).shape} in column {column}")

    @classmethod
    def of_table(
        cls,
        table: FrameTable,
        *,
        returns: np.ndarray,
        values: np.ndarray,
        advantages: np.ndarray,
        indicator: np.ndarray,
        weight: np.ndarray,
    ) -> Labels:
        """Label every frame of a table; columns [F] in the order of its rows."""
        return cls(
            keys=tuple((record.dataset_id, record.episode_id) for record in table.episodes),
            lengths=tuple(record.length for record in table.episodes),
            returns=returns.astype(np.float32),
            values=values.astype(np.float32),
            advantages=advantages.astype(np.float32),
            indicator=indicator.astype(np.int8),
            weight=weight.astype(np.float32),
        )

    def aligned_with(self, table: FrameTable) -> Labels:
        """Return the labels of a table's frames in the order of its rows; an episode without labels raises `DataError`."""
        starts = dict(zip(self.keys, np.cumsum((0, *self.lengths)), strict=False))
        lengths = dict(zip(self.keys, self.lengths, strict=True))
        for record in table.episodes:
            labelled = lengths.get((record.dataset_id, record.episode_id), 0)
            if labelled != record.length:
                raise DataError(
                    f"episode {record.episode_id} of dataset {record.dataset_id[:12]} has {record.length} frames, "
                    f"{labelled} of them with labels; label the episodes again before training on them"
                )
        first = np.array([starts[record.dataset_id, record.episode_id] for record in table.episodes])
        rows = first[table.episode] + table.tick
        return Labels.of_table(
            table,
            returns=self.returns[rows],
            values=self.values[rows],
            advantages=self.advantages[rows],
            indicator=self.indicator[rows],
            weight=self.weight[rows],
        )

    def write(self, directory: Path, *, info: Mapping[str, Any]) -> str:
        """Write a sealed directory and return its content id; `info` goes into the manifest."""
        dataset_ids, episode_ids = zip(*self.keys, strict=True)
        columns = {
            "dataset_id": np.repeat(np.array(dataset_ids, object), self.lengths),
            "episode_id": np.repeat(np.array(episode_ids, object), self.lengths),
            "frame": np.concatenate([np.arange(length, dtype=np.int32) for length in self.lengths]),
            **{column: getattr(self, field) for column, field in COLUMNS.items()},
        }
        with building(directory, dict(info)) as partial:
            commit_table(pa.table(columns), partial / LABELS_FILE)
        return str(read_manifest(directory)["id"])

    @classmethod
    def read(cls, directory: Path) -> Labels:
        """Read a sealed directory; an incomplete or damaged one raises `CheckpointError` or `DataError`."""
        read_manifest(directory)
        fix = "Delete the folder and run the labelling stage again."
        table = read_table(directory / LABELS_FILE, where=f"labels {directory}", fix=fix)
        frame = table["frame"].to_numpy()
        starts = np.flatnonzero(frame == 0)
        lengths = np.diff(np.append(starts, len(frame)))
        dataset_ids, episode_ids = (table[name].take(pa.array(starts)).to_pylist() for name in ("dataset_id", "episode_id"))
        return cls(
            keys=tuple(zip(dataset_ids, episode_ids, strict=True)),
            lengths=tuple(int(length) for length in lengths),
            **{field: table[column].to_numpy() for column, field in COLUMNS.items()},
        )
