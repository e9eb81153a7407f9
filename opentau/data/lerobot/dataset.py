"""LeRobot datasets as training reads them, in place: v2.0, v2.1 and v3.0, images or video, ours or of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import EpisodeRow, read_catalog, read_json
from opentau.data.lerobot.episode_table import EpisodeInfo, foreign_info, from_table, info_from_constants, numbers
from opentau.data.lerobot.video import decode_span
from opentau.data.parquet import damaged, read_rows, read_table
from opentau.data.png import decode_frames
from opentau.errors import DataError, near_matches
from opentau.types import Episode, Interface, Outcome

# Shapes: T frames of an episode, Y and X image rows and columns.


class Dataset:
    """A finished LeRobot dataset as an `EpisodeSource`.

    Ours give back exactly what was recorded. Datasets of others lack some columns, which get the defaults of
    `episode_table.from_table`. Positions count the chosen episodes from zero; `EpisodeInfo.index` is LeRobot's `episode_index`.
    """

    def __init__(self, root: Path, *, with_images: bool = True, episodes: Sequence[int] | None = None) -> None:
        """Read meta/; `episodes` chooses by `episode_index`, all by default. Raises `DataError` for what cannot be used."""
        self.root = Path(root)
        self.catalog = read_catalog(self.root)
        self._with_images = with_images
        self._features = self.catalog.features
        self.fps: int = self.catalog.info["fps"]
        self.interface: Interface = self._read_interface()
        self._rows = self._chosen_rows(episodes)
        outcomes = self._foreign_outcomes()
        self.episodes: tuple[EpisodeInfo, ...] = tuple(self._episode_info(row, outcomes) for row in self._rows)

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return (self.load(position) for position in range(len(self)))

    @cached_property
    def dataset_id(self) -> str:
        """Content hash of what meta/ says of all episodes, chosen or not; the same wherever the dataset lies."""
        return self.catalog.dataset_id()

    def load(self, position: int) -> Episode:
        """Read one episode; missing, truncated or corrupt data raises `DataError` naming dataset, file, episode and frame."""
        return self._load(position, with_images=self._with_images)

    def numbers(self, position: int) -> Episode:
        """Read one episode without its images."""
        return self._load(position, with_images=False)

    def frames(self, position: int, camera: str) -> np.ndarray:
        """Read the images of one episode and camera, uint8 [T, Y, X, 3]."""
        if camera not in self._camera_keys:
            raise DataError(f"dataset {self.root} has no camera {camera!r}.{near_matches(camera, self._camera_keys)}")
        row, key = self._rows[position], self._camera_keys[camera]
        is_video = self._features[key]["dtype"] == "video"
        table = self._read(row, [layout.FRAME_INDEX, layout.TIMESTAMP if is_video else key])
        return self._decode(table, row, camera)

    def frames_id(self, position: int, camera: str) -> str:
        """Return a name for the images of one episode and camera, another one when the file that holds them was replaced."""
        row = self._rows[position]
        span = row.videos.get(self._camera_keys[camera])
        path = self.root / (span.path if span else row.data_path)
        return f"{row.index:06d}-{path.stat().st_size:x}"

    def where(self, position: int) -> str:
        """Return what errors call an episode."""
        info = self.episodes[position]
        return f"dataset {self.root}, episode {info.index} ({info.episode_id})"

    def _load(self, position: int, *, with_images: bool) -> Episode:
        row, info = self._rows[position], self.episodes[position]
        cameras = self._camera_keys if with_images else {}
        known = layout.OUR_COLUMNS if self.catalog.is_ours else (*layout.COMMON_COLUMNS, *layout.INTERVENTION_COLUMNS)
        columns = [column for column in known if column in self._features]
        columns += [key for key in cameras.values() if self._features[key]["dtype"] == "image"]
        subtasks = self.catalog.subtasks
        counters = [layout.FRAME_INDEX, layout.TIMESTAMP, layout.TASK_INDEX, *([layout.SUBTASK_INDEX] if subtasks else [])]
        table = self._read(row, [*columns, *counters])
        texts = partial(self._frame_texts, table, row)
        narrated = texts(column=layout.SUBTASK_INDEX, texts=subtasks) if subtasks else ()
        return from_table(
            table,
            info,
            images={camera: self._decode(table, row, camera) for camera in cameras},
            # An episode of one task says so in meta/ once; its frames need no prompts of their own.
            prompts=texts(column=layout.TASK_INDEX, texts=self.catalog.tasks) if len(row.tasks) > 1 else (),
            subtasks=narrated if any(narrated) else (),
            features=self._features,
            sim_state_dim=row.constants.get("sim_state_dim", 0),
            limits_id=row.constants.get(layout.LIMITS_ID) or "",
            where=f"{self.where(position)}, file {self.root / row.data_path}",
        )

    def _read(self, row: EpisodeRow, columns: Sequence[str]) -> pa.Table:
        """Return the rows of an episode; another number of them than meta/ says raises `DataError`."""
        path, where, fix = self.root / row.data_path, self._where_row(row), self.catalog.fix
        table = read_rows(path, columns=columns, key=layout.EPISODE_INDEX, value=row.index, where=where, fix=fix)
        if len(table) != row.length:
            reason = f"it holds {len(table)} frames of the episode, meta/episodes says {row.length}"
            raise damaged(path, reason, where=where, fix=fix)
        if layout.FRAME_INDEX in columns and not np.array_equal(table[layout.FRAME_INDEX].to_numpy(), np.arange(row.length)):
            raise damaged(path, "its frame_index does not count 0, 1, …", where=where, fix=fix)
        return table

    def _times_s(self, table: pa.Table, row: EpisodeRow) -> np.ndarray:
        """Return the timestamps of an episode, float64 [T]; ones that are no ascending numbers raise `DataError`."""
        times_s = table[layout.TIMESTAMP].to_numpy(zero_copy_only=False).astype(np.float64)
        is_odd = ~np.isfinite(times_s)
        is_odd[1:] |= np.diff(times_s) <= 0
        if is_odd.any():
            tick = int(is_odd.argmax())
            reason = f"the timestamp of frame {tick} is {times_s[tick]}, after {times_s[max(0, tick - 1)]}"
            raise damaged(self.root / row.data_path, reason, where=self._where_row(row), fix=self.catalog.fix)
        return times_s

    def _decode(self, table: pa.Table, row: EpisodeRow, camera: str) -> np.ndarray:
        """Return the images of a camera, uint8 [T, Y, X, 3], out of the table or of the video that it points into."""
        key = self._camera_keys[camera]
        where = self._where_row(row)
        pixels = np.empty((row.length, *self.interface.cameras[camera]), np.uint8)
        if key in row.videos:
            span = row.videos[key]
            times_s = span.start_s + self._times_s(table, row)
            named = f"{where}, camera {camera}"
            decode_span(self.root / span.path, pixels, times_s=times_s, fps=self.fps, where=named, fix=self.catalog.fix)
        else:
            blocks = pc.struct_field(table[key], "bytes").to_pylist()
            decode_frames(blocks, pixels, where=f"{where}, file {self.root / row.data_path}, camera {camera}")
        return pixels

    @cached_property
    def _camera_keys(self) -> dict[str, str]:
        """Camera to feature."""
        return {layout.camera_of(key): key for key in layout.camera_keys(self._features)}

    def _frame_texts(self, table: pa.Table, row: EpisodeRow, *, column: str, texts: Sequence[str]) -> tuple[str, ...]:
        """Return the text of every frame that a column numbers; a number without a text raises `DataError`."""
        number_T = table[column].to_numpy()
        if number_T.min() < 0 or number_T.max() >= len(texts):
            reason = f"a frame has {column} {number_T.min()} or {number_T.max()}, meta/ lists 0 to {len(texts) - 1}"
            raise damaged(self.root / row.data_path, reason, where=self._where_row(row), fix=self.catalog.fix)
        return tuple(texts[number] for number in number_T)

    def _where_row(self, row: EpisodeRow) -> str:
        name = row.constants["episode_id"] if self.catalog.is_ours else f"{row.index:06d}"
        return f"dataset {self.root}, episode {row.index} ({name})"

    def _read_interface(self) -> Interface:
        if not self.catalog.is_ours:
            return layout.interface_from_info(self.catalog.info)
        path, where = self.root / layout.EXTRAS_PATH, f"dataset {self.root}"
        extras = read_json(path, where=where)
        try:
            return Interface.from_dict(extras["interface"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, f"its interface is none: {error}", where=where, fix=self.catalog.fix) from error

    def _chosen_rows(self, episodes: Sequence[int] | None) -> tuple[EpisodeRow, ...]:
        rows = self.catalog.rows
        if episodes is None:
            return rows
        unknown = [index for index in episodes if not 0 <= index < len(rows)]
        if unknown or not episodes or len(set(episodes)) != len(episodes):
            raise DataError(
                f"dataset {self.root}: chosen episodes are {list(episodes)[:10]}; choose from 0 to {len(rows) - 1}, each once"
            )
        return tuple(rows[index] for index in episodes)

    def _foreign_outcomes(self) -> dict[int, Outcome]:
        """Return the outcomes that a dataset of others records, by `episode_index`; demonstrations without one succeeded."""
        if self.catalog.is_ours or layout.SUCCESS not in self._features:
            return {}
        succeeded: dict[int, bool] = {}
        for name in dict.fromkeys(row.data_path for row in self._rows):
            columns = [layout.EPISODE_INDEX, layout.SUCCESS]
            table = read_table(self.root / name, columns=columns, where=f"dataset {self.root}", fix=self.catalog.fix)
            flags = numbers(table, layout.SUCCESS)[:, 0].astype(bool)
            for index, is_success in zip(table[layout.EPISODE_INDEX].to_pylist(), flags, strict=True):
                succeeded[index] = succeeded.get(index, False) or bool(is_success)
        return {index: Outcome.SUCCESS if flag else Outcome.FAILURE for index, flag in succeeded.items()}

    def _episode_info(self, row: EpisodeRow, outcomes: dict[int, Outcome]) -> EpisodeInfo:
        if self.catalog.is_ours:
            try:
                return info_from_constants({**row.constants, "prompt": row.tasks[0]}, index=row.index)
            except (KeyError, IndexError, ValueError) as error:
                reason = f"it lacks what was recorded of the episode: {error}"
                path = self.catalog.files[0]
                raise damaged(path, reason, where=f"dataset {self.root}, episode {row.index}", fix=self.catalog.fix) from error
        return foreign_info(row, outcome=outcomes.get(row.index, Outcome.SUCCESS))
