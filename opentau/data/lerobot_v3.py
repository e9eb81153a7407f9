"""Datasets on disk: a kill-safe recorder of LeRobot v3.0 datasets and the reader that training uses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from opentau.data import layout
from opentau.data.episode_table import (
    EpisodeInfo,
    check_episode,
    from_table,
    info_from_constants,
    place,
    read_constants,
    to_table,
)
from opentau.data.finishing import Collected, write_meta
from opentau.data.parquet import commit_table, damaged, read_rows, read_schema, read_table
from opentau.errors import DataError
from opentau.types import Episode, Interface, Outcome

FIX_RECORDED = "Delete that file and resume the run, which records the episode again, or restore it from a copy."
FIX_FINISHED = "Restore it from a copy, or delete the dataset's folder and resume the run, which records it again."
FIX_FETCHED = "Fetch or record the dataset again."


class DatasetWriter:
    """Record episodes into one dataset; a kill at any moment loses none that `add` has returned from.

    `add` commits one data file per episode, named by plan index, that says everything about itself: constants in the schema
    metadata, and columns that depend on other episodes (episode_index, index, task_index) numbered as if it were alone.
    `finish` gives those columns their final numbers in plan order, rewriting file by file atomically, and writes meta/. It
    can be killed and called again; only a finished dataset loads. Equal episodes give equal bytes, whatever the order of
    arrival. Gaps in the plan are fine: `episode_index` is the rank of the plan index.
    """

    def __init__(self, root: Path, *, interface: Interface, fps: int, robot_type: str, env_id: str) -> None:
        if fps < 1 or fps != int(fps):
            raise DataError(f"fps is {fps}; LeRobot datasets have a whole number of frames per second, at least 1")
        if fps != round(interface.control_hz):
            raise DataError(f"fps is {fps}, the interface runs at {interface.control_hz} Hz; a frame is one control step")
        self.root = root
        self.interface = interface
        self._fps = int(fps)
        self._robot_type = robot_type
        self._env_id = env_id

    def recorded(self) -> set[int]:
        """Return the plan indices of the committed episodes."""
        return {layout.plan_index_of(path) for path in self.root.glob("data/chunk-*/file-*.parquet")}

    def info(self, plan_index: int) -> EpisodeInfo:
        """Return what is known of a committed episode, from its file's footer alone."""
        return info_from_constants(self._constants(plan_index), index=plan_index)

    def add(self, plan_index: int, episode: Episode) -> None:
        """Commit one episode durably; an index that is recorded already or an unfit episode raises `DataError`."""
        path = self.root / layout.data_path(plan_index)
        if path.exists():
            raise DataError(f"{self._where(plan_index)} is recorded already; ask recorded() what is missing before collecting")
        if (self.root / layout.INFO_PATH).exists():
            raise DataError(f"dataset {self.root} is finished, episode {plan_index} cannot be added; record into a new dataset")
        check_episode(episode, self.interface)
        commit_table(to_table(plan_index, episode, fps=self._fps), path)

    def finish(self) -> None:
        """Number the frames and write meta/; no episodes or a damaged file raise `DataError`, a full disk `StorageError`."""
        plan_indices = sorted(self.recorded())
        if not plan_indices:
            raise DataError(f"dataset {self.root} has no episodes; record at least one before finishing it")
        for leftover in self.root.glob("data/chunk-*/*.partial"):
            leftover.unlink()
        constants = {plan_index: self._constants(plan_index) for plan_index in plan_indices}
        prompts = list(dict.fromkeys(constants[plan_index]["prompt"] for plan_index in plan_indices))
        sim_state_dim = max(each["sim_state_dim"] for each in constants.values())
        features = layout.build_features(self.interface, sim_state_dim=sim_state_dim)
        schema = layout.arrow_schema(features)
        collected, first_frame = Collected(), 0
        for episode_index, plan_index in enumerate(plan_indices):
            path = self.root / layout.data_path(plan_index)
            table = place(
                read_table(path, where=self._where(plan_index), fix=FIX_RECORDED),
                schema,
                episode_index=episode_index,
                first_frame=first_frame,
                task_index=prompts.index(constants[plan_index]["prompt"]),
            )
            collected.add(table, constants[plan_index], plan_index=plan_index, first_frame=first_frame)
            commit_table(table, path)
            first_frame += len(table)
        write_meta(
            self.root,
            collected,
            features=features,
            prompts=prompts,
            interface=self.interface,
            env_id=self._env_id,
            fps=self._fps,
            robot_type=self._robot_type,
        )

    def _constants(self, plan_index: int) -> dict[str, Any]:
        path = self.root / layout.data_path(plan_index)
        return read_constants(read_schema(path, where=self._where(plan_index), fix=FIX_RECORDED))

    def _where(self, plan_index: int) -> str:
        return f"dataset {self.root}, episode {plan_index}"


class Dataset:
    """A finished LeRobot v3.0 dataset, ours or of others, as an `EpisodeSource`.

    Ours give back exactly what was recorded. Datasets of others lack some columns, which get the defaults of
    `episode_table.from_table`. Cameras stored as video cannot be read here: open such a dataset with ``with_images=False``.
    """

    def __init__(self, root: Path, *, with_images: bool = True) -> None:
        self.root = Path(root)
        info = self._read_json(layout.INFO_PATH)
        if info.get("codebase_version") != layout.CODEBASE_VERSION:
            raise DataError(
                f"dataset {self.root} has the layout {info.get('codebase_version')}, this reads {layout.CODEBASE_VERSION}; "
                "convert it with LeRobot's conversion script"
            )
        self._is_ours = (self.root / layout.EXTRAS_PATH).exists()
        self._fix = FIX_FINISHED if self._is_ours else FIX_FETCHED
        self._data_path: str = info["data_path"]
        self._features: layout.Features = info["features"]
        self._with_images = with_images
        self.fps: int = info["fps"]
        self.interface: Interface = self._read_interface(info)
        self._rows = self._read_episode_rows()
        self.episodes: tuple[EpisodeInfo, ...] = tuple(self._read_episode_info(row) for row in self._rows)

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return (self.load(index) for index in range(len(self)))

    @cached_property
    def dataset_id(self) -> str:
        """Content hash of what meta/ says of the episodes, their digests included; the same wherever the dataset lies."""
        digest = hashlib.sha256((self.root / layout.INFO_PATH).read_bytes())
        for path in self._episode_files():
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def load(self, index: int) -> Episode:
        """Read one episode; missing, truncated or corrupt data raises `DataError` naming dataset, file and episode."""
        info, row = self.episodes[index], self._rows[index]
        path = self.root / self._data_path.format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        where = f"dataset {self.root}, episode {info.index} ({info.episode_id})"
        cameras = self._cameras(where) if self._with_images else {}
        known = layout.OUR_COLUMNS if self._is_ours else layout.COMMON_COLUMNS
        columns = [column for column, _ in cameras.values()] + [column for column in known if column in self._features]
        table = read_rows(path, columns=columns, key=layout.EPISODE_INDEX, value=info.index, where=where, fix=self._fix)
        if len(table) != info.length:
            reason = f"it holds {len(table)} frames of the episode, meta/episodes says {info.length}"
            raise damaged(path, reason, where=where, fix=self._fix)
        sim_state_dim = row.get("sim_state_dim", 0)
        return from_table(table, info, cameras=cameras, sim_state_dim=sim_state_dim, where=f"{where}, file {path}")

    def _cameras(self, where: str) -> dict[str, tuple[str, tuple[int, int, int]]]:
        """Return camera name to (column, (Y, X, 3))."""
        keys = layout.camera_keys(self._features)
        videos = [key for key in keys if self._features[key]["dtype"] == "video"]
        if videos:
            raise DataError(
                f"{where}: {', '.join(videos)} are stored as video, which is not read here. Open the dataset without images, "
                "or convert its videos to image columns with LeRobot."
            )
        return {layout.camera_of(key): (key, self.interface.cameras[layout.camera_of(key)]) for key in keys}

    def _read_interface(self, info: dict[str, Any]) -> Interface:
        if self._is_ours:
            return Interface.from_dict(self._read_json(layout.EXTRAS_PATH)["interface"])
        return layout.interface_from_info(info)

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.root / name
        if name == layout.INFO_PATH and not path.exists():
            num_files = len(list(self.root.glob("data/chunk-*/file-*.parquet")))
            raise DataError(
                f"dataset {self.root} has no {name}: it does not exist or is not finished ({num_files} data files are there). "
                "Check the path, or resume the run that records it."
            )
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise damaged(path, error, where=f"dataset {self.root}", fix=FIX_FETCHED) from error

    def _episode_files(self) -> list[Path]:
        return sorted(self.root.glob("meta/episodes/*/*.parquet"))

    def _read_episode_rows(self) -> list[dict[str, Any]]:
        """Return the rows of meta/episodes, without the statistics in them."""
        rows: list[dict[str, Any]] = []
        for path in self._episode_files():
            names = [
                name
                for name in read_schema(path, where=f"dataset {self.root}", fix=FIX_FETCHED).names
                if not name.startswith("stats/")
            ]
            rows += read_table(path, columns=names, where=f"dataset {self.root}", fix=FIX_FETCHED).to_pylist()
        rows.sort(key=lambda row: row["episode_index"])
        if [row["episode_index"] for row in rows] != list(range(len(rows))) or not rows:
            raise DataError(f"dataset {self.root}: meta/episodes does not list the episodes 0, 1, … once each. {FIX_FETCHED}")
        return rows

    def _read_episode_info(self, row: dict[str, Any]) -> EpisodeInfo:
        prompt, index = row["tasks"][0], row["episode_index"]
        if self._is_ours:
            return info_from_constants({**row, "prompt": prompt}, index=index)
        return EpisodeInfo(
            index=index,
            episode_id=f"{index:06d}",
            task_id=prompt,
            prompt=prompt,
            length=row["length"],
            outcome=Outcome.SUCCESS,
            seed=index,
            policy_version="",
            env_id="",
            num_intervention_steps=0,
            digest="",
        )
