"""The kill-safe recorder of LeRobot v3.0 datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import FIX_RECORDED
from opentau.data.lerobot.episode_table import (
    EpisodeInfo,
    check_episode,
    info_from_constants,
    place,
    read_constants,
    to_table,
)
from opentau.data.lerobot.finishing import Collected, write_meta
from opentau.data.parquet import commit_table, read_schema, read_table
from opentau.errors import DataError
from opentau.types import Episode, Interface


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
