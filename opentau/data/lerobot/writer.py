"""The kill-safe recorder of LeRobot v3.0 datasets."""

from __future__ import annotations

from collections.abc import Collection
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
    subtask_runs,
    to_table,
)
from opentau.data.lerobot.finishing import Collected, prompts_of, write_meta
from opentau.data.lerobot.video import encode, video_info
from opentau.data.parquet import commit_bytes, commit_table, read_schema, read_table
from opentau.errors import DataError
from opentau.types import Episode, Interface


class DatasetWriter:
    """Record episodes into one dataset; a kill at any moment loses none that `add` has returned from.

    `add` commits one data file per episode, named by plan index, that says everything about itself: constants in the schema
    metadata, and columns that depend on other episodes (episode_index, index, task_index) numbered as if it were alone.
    `finish` gives those columns their final numbers in plan order, rewriting file by file atomically, and writes meta/. It
    can be killed and called again; only a finished dataset loads. Equal episodes give equal bytes, whatever the order of
    arrival. Gaps in the plan are fine: `episode_index` is the rank of the plan index. Cameras named in `video_cameras` are
    stored as one video per episode, which loses a little; the others as PNG columns, which lose nothing.
    """

    def __init__(
        self,
        root: Path,
        *,
        interface: Interface,
        fps: int,
        robot_type: str,
        env_id: str,
        video_cameras: Collection[str] = (),
    ) -> None:
        if fps < 1 or fps != int(fps):
            raise DataError(f"fps is {fps}; LeRobot datasets have a whole number of frames per second, at least 1")
        if fps != round(interface.control_hz):
            raise DataError(f"fps is {fps}, the interface runs at {interface.control_hz} Hz; a frame is one control step")
        self.root = root
        self.interface = interface
        self._fps = int(fps)
        self._robot_type = robot_type
        self._env_id = env_id
        self._video_cameras = sorted(video_cameras)

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
        # The data file comes last: its presence says that the episode is recorded.
        for camera in self._video_cameras:
            block = encode(episode.images[camera], fps=self._fps)
            commit_bytes(block, self.root / layout.video_path(plan_index, layout.IMAGE_PREFIX + camera))
        commit_table(to_table(plan_index, episode, fps=self._fps, video_cameras=self._video_cameras), path)

    def finish(self) -> None:
        """Number the frames and write meta/; no episodes or a damaged file raise `DataError`, a full disk `StorageError`."""
        plan_indices = sorted(self.recorded())
        if not plan_indices:
            raise DataError(f"dataset {self.root} has no episodes; record at least one before finishing it")
        self._remove_leftovers(plan_indices)
        constants = {plan_index: self._constants(plan_index) for plan_index in plan_indices}
        prompts = list(dict.fromkeys(prompt for plan_index in plan_indices for prompt in prompts_of(constants[plan_index])))
        subtasks = list(dict.fromkeys(text for index in plan_indices for text, _ in subtask_runs(constants[index])))
        subtasks = subtasks if any(subtasks) else []
        sim_state_dim = max(each["sim_state_dim"] for each in constants.values())
        is_robot = any(layout.LIMITS_ID in each for each in constants.values())
        features = self._features(sim_state_dim, has_subtasks=bool(subtasks), is_robot=is_robot)
        schema = layout.arrow_schema(features)
        collected, first_frame = Collected(), 0
        video_keys = self._video_keys()
        for episode_index, plan_index in enumerate(plan_indices):
            path = self.root / layout.data_path(plan_index)
            table = place(
                read_table(path, where=self._where(plan_index), fix=FIX_RECORDED),
                schema,
                episode_index=episode_index,
                first_frame=first_frame,
                task_indices={prompt: number for number, prompt in enumerate(prompts)},
                subtask_indices={subtask: number for number, subtask in enumerate(subtasks)},
            )
            collected.add(
                table,
                constants[plan_index],
                plan_index=plan_index,
                first_frame=first_frame,
                video_keys=video_keys,
                fps=self._fps,
            )
            commit_table(table, path)
            first_frame += len(table)
        write_meta(
            self.root,
            collected,
            features=features,
            prompts=prompts,
            subtasks=subtasks,
            interface=self.interface,
            env_id=self._env_id,
            fps=self._fps,
            robot_type=self._robot_type,
        )

    def _features(self, sim_state_dim: int, *, has_subtasks: bool, is_robot: bool) -> layout.Features:
        shapes = self.interface.cameras
        info = {camera: video_info(shapes[camera], fps=self._fps) for camera in self._video_cameras}
        return layout.build_features(
            self.interface, sim_state_dim=sim_state_dim, has_subtasks=has_subtasks, is_robot=is_robot, video_info=info
        )

    def _video_keys(self) -> list[str]:
        return [layout.IMAGE_PREFIX + camera for camera in self._video_cameras]

    def _remove_leftovers(self, plan_indices: list[int]) -> None:
        """Remove what kills left: half files, and videos of episodes whose data file was never written."""
        kept = {layout.video_path(plan_index, key) for plan_index in plan_indices for key in self._video_keys()}
        videos = [path for path in self.root.glob("videos/*/chunk-*/*.mp4") if str(path.relative_to(self.root)) not in kept]
        for leftover in (*self.root.glob("data/chunk-*/*.partial"), *self.root.glob("videos/*/chunk-*/*.partial"), *videos):
            leftover.unlink()

    def _constants(self, plan_index: int) -> dict[str, Any]:
        path = self.root / layout.data_path(plan_index)
        return read_constants(read_schema(path, where=self._where(plan_index), fix=FIX_RECORDED))

    def _where(self, plan_index: int) -> str:
        return f"dataset {self.root}, episode {plan_index}"
