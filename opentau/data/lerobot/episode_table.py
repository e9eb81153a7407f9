"""One episode as one self-describing parquet table, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import EpisodeRow
from opentau.data.png import encode_frames
from opentau.errors import DataError
from opentau.types import ROBOT_COLUMNS, Episode, Interface, Outcome, Source

# Shapes: T frames, S state dimensions, A action dimensions, N numbers of a simulator state, Y and X image rows and columns.

CONSTANTS_KEY = b"opentau"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeInfo:
    """What is constant over a recorded episode; `Dataset.load(info.index)` gives its frames."""

    index: int
    """Position in the dataset, counted from zero; in an unfinished dataset the plan index."""
    episode_id: str
    task_id: str
    prompt: str
    length: int
    """Frames."""
    outcome: Outcome
    seed: int
    policy_version: str
    env_id: str
    num_intervention_steps: int
    digest: str
    """`Episode.digest()` when it was recorded; empty for datasets of others."""

    @property
    def is_success(self) -> bool:
        return self.outcome is Outcome.SUCCESS


def check_episode(episode: Episode, interface: Interface) -> None:
    """Raise `DataError` unless the episode has frames, fits the interface and holds finite states and actions."""
    where = f"episode {episode.episode_id}"
    if not len(episode):
        raise DataError(f"{where} has no frames; only episodes of at least one control step are recorded")
    if set(episode.images) != set(interface.cameras):
        raise DataError(
            f"{where} has the cameras {sorted(episode.images)}, the dataset {sorted(interface.cameras)}; "
            "record environments of one interface into one dataset"
        )
    wanted = {f"images.{camera}": ("uint8", tuple(shape)) for camera, shape in interface.cameras.items()}
    wanted["state"] = ("float32", (interface.state_dim,))
    wanted |= {name: ("float32", (interface.action_dim,)) for name in ("action", "policy_action", "executed_action")}
    wanted |= {"source": ("int8", ()), "reward": ("float32", ()), "value": ("float32", ())}
    columns = episode.columns()
    for name, (dtype, shape) in wanted.items():
        if columns[name].dtype != np.dtype(dtype) or columns[name].shape[1:] != shape:
            raise DataError(
                f"{where}: {name} is {columns[name].dtype} {columns[name].shape}, the dataset's interface needs "
                f"{dtype} {('T', *shape)}; record with the interface the dataset was opened with"
            )
    for name in ("state", "action", "executed_action"):
        finite = np.isfinite(columns[name]).all(axis=1)
        if not finite.all():
            raise DataError(
                f"{where}: {name} is not finite at frame {int(finite.argmin())}; find out who produced it, it is not recorded"
            )


def to_table(plan_index: int, episode: Episode, *, fps: int, video_cameras: Collection[str] = ()) -> pa.Table:
    """Return the table of an episode as first committed, without the images of cameras that are stored as video.

    What depends on the other episodes of the dataset (episode_index, index, task_index, the width of sim_state) is
    provisional; `place` sets it when the dataset is finished.
    """
    ticks = np.arange(len(episode))
    arrays = {
        f"{layout.IMAGE_PREFIX}{camera}": _image_array(frames)
        for camera, frames in sorted(episode.images.items())
        if camera not in video_cameras
    }
    arrays |= {
        layout.STATE: _array(episode.state),
        layout.ACTION: _array(episode.action),
        layout.POLICY_ACTION: _array(episode.policy_action),
        layout.EXECUTED_ACTION: _array(episode.executed_action),
        layout.SOURCE: _array(episode.source),
        layout.REWARD: _array(episode.reward),
        layout.VALUE: _array(episode.value),
        layout.TIMESTAMP: _array((ticks / fps).astype(np.float32)),
        layout.FRAME_INDEX: _array(ticks),
        layout.EPISODE_INDEX: _array(np.full(len(episode), plan_index)),
        layout.INDEX: _array(ticks),
        layout.TASK_INDEX: _array(np.zeros(len(episode), np.int64)),
    }
    arrays |= {name: _array(column) for name, column in episode.robot.items()}
    if episode.sim_state.shape[1]:
        arrays[layout.SIM_STATE] = _array(episode.sim_state.astype(np.float64, copy=False))
    return pa.table(arrays).replace_schema_metadata({CONSTANTS_KEY: json.dumps(_constants(episode), sort_keys=True)})


def place(
    table: pa.Table,
    schema: pa.Schema,
    *,
    episode_index: int,
    first_frame: int,
    task_indices: Mapping[str, int],
    subtask_indices: Mapping[str, int],
) -> pa.Table:
    """Return a committed table with its place in the finished dataset and the dataset's own schema.

    `task_indices` numbers the prompts of the dataset, `subtask_indices` its subtasks; empty where it has none.
    """
    num_frames = len(table)
    constants = read_constants(table.schema)
    placed = {
        layout.EPISODE_INDEX: np.full(num_frames, episode_index),
        layout.INDEX: np.arange(first_frame, first_frame + num_frames),
        layout.TASK_INDEX: _numbered(prompt_runs(constants), task_indices),
    }
    if subtask_indices:
        placed[layout.SUBTASK_INDEX] = _numbered(subtask_runs(constants), subtask_indices)
    columns = []
    for field in schema:
        if field.name in placed:
            columns.append(_array(placed[field.name]))
        elif field.name == layout.SIM_STATE:
            # Simulators of different tasks have states of different lengths; a LeRobot column has one.
            own_width = constants["sim_state_dim"]
            rows = numbers(table, field.name)[:, :own_width] if own_width else np.zeros((num_frames, 0))
            width = field.type.list_size if pa.types.is_fixed_size_list(field.type) else 1
            columns.append(_array(np.pad(rows, ((0, 0), (0, width - own_width)))))
        elif field.name in ROBOT_COLUMNS and field.name not in table.column_names:
            # Simulators beside robots: the column says nothing of them, and reading an episode without limits leaves it out.
            shape = (num_frames, field.type.list_size) if pa.types.is_fixed_size_list(field.type) else (num_frames,)
            columns.append(_array(np.zeros(shape, ROBOT_COLUMNS[field.name])))
        else:
            columns.append(table[field.name])
    metadata = {**(schema.metadata or {}), CONSTANTS_KEY: table.schema.metadata[CONSTANTS_KEY]}
    return pa.table(columns, schema=schema.with_metadata(metadata))


def read_constants(schema: pa.Schema) -> dict[str, Any]:
    """Return what `to_table` wrote beside the columns."""
    return json.loads(schema.metadata[CONSTANTS_KEY])


def prompt_runs(constants: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the prompts of an episode in order, each with the number of frames it holds for."""
    return [(prompt, length) for prompt, length in constants.get("prompt_runs", [(constants["prompt"], constants["length"])])]


def subtask_runs(constants: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the subtasks of an episode in order, each with the number of frames it lasts; '' where nobody said."""
    return [(subtask, length) for subtask, length in constants.get("subtask_runs", [("", constants["length"])])]


def _numbered(runs: Sequence[tuple[str, int]], numbers_of: Mapping[str, int]) -> np.ndarray:
    return np.concatenate([np.full(length, numbers_of[text]) for text, length in runs])


def info_from_constants(constants: Mapping[str, Any], *, index: int) -> EpisodeInfo:
    """Return the description of an episode from its file's constants or from its row in meta/episodes."""
    return EpisodeInfo(
        index=index,
        episode_id=constants["episode_id"],
        task_id=constants["task_id"],
        prompt=constants["prompt"],
        length=constants["length"],
        outcome=Outcome(constants["outcome"]),
        seed=constants["seed"],
        policy_version=constants["policy_version"],
        env_id=constants["env_id"],
        num_intervention_steps=constants["num_intervention_steps"],
        digest=constants["digest"],
    )


def foreign_info(row: EpisodeRow, *, outcome: Outcome) -> EpisodeInfo:
    """Return the description of an episode of a dataset that is not ours."""
    return EpisodeInfo(
        index=row.index,
        episode_id=f"{row.index:06d}",
        task_id=row.tasks[0] if row.tasks else "",
        prompt=row.tasks[0] if row.tasks else "",
        length=row.length,
        outcome=outcome,
        seed=row.index,
        policy_version="",
        env_id="",
        num_intervention_steps=0,
        digest="",
    )


def from_table(
    table: pa.Table,
    info: EpisodeInfo,
    *,
    images: Mapping[str, np.ndarray],
    prompts: tuple[str, ...],
    subtasks: tuple[str, ...],
    features: layout.Features,
    sim_state_dim: int,
    limits_id: str = "",
    where: str,
) -> Episode:
    """Return the episode. Columns that are missing get a default; one that contradicts its feature raises `DataError`.

    The defaults describe a successful demonstration: source demonstration, executed action = action, no policy action (NaN),
    no value (NaN), reward 1 at the last frame, no simulator state.
    """
    num_frames = len(table)
    rows = partial(_rows, table, features=features, where=where)
    action = rows(layout.ACTION, np.zeros((num_frames, 0)), np.float32)
    reward = np.zeros(num_frames)
    reward[-1] = info.is_success
    return Episode(
        images=images,
        state=rows(layout.STATE, np.zeros((num_frames, 0)), np.float32),
        action=action,
        policy_action=rows(layout.POLICY_ACTION, np.full(action.shape, np.nan), np.float32),
        executed_action=rows(layout.EXECUTED_ACTION, action, np.float32),
        source=rows(layout.SOURCE, default_source(table), np.int8),
        reward=rows(layout.REWARD, reward, np.float32),
        value=rows(layout.VALUE, np.full(num_frames, np.nan), np.float32),
        sim_state=rows(layout.SIM_STATE, np.zeros((num_frames, 0)), np.float64)[:, :sim_state_dim],
        prompt=info.prompt,
        task_id=info.task_id,
        outcome=info.outcome,
        seed=info.seed,
        episode_id=info.episode_id,
        env_id=info.env_id,
        policy_version=info.policy_version,
        prompts=prompts,
        subtasks=subtasks,
        robot=_robot_columns(table, rows, num_actions=action.shape[1]) if limits_id else {},
        limits_id=limits_id,
    )


def _robot_columns(table: pa.Table, rows: Callable[..., np.ndarray], *, num_actions: int) -> dict[str, np.ndarray]:
    columns = {}
    for name, dtype in ROBOT_COLUMNS.items():
        shape = (len(table), num_actions) if name == layout.CLIP_MASK else (len(table),)
        columns[name] = rows(name, np.zeros(shape), np.dtype(dtype).type)
    return columns


def numbers(table: pa.Table, column: str) -> np.ndarray:
    """Return a column of numbers or of lists of one length as [T, D]; lists of several lengths raise `ValueError`."""
    chunks = table[column].chunks
    lengths = {length for chunk in chunks if pa.types.is_list(chunk.type) for length in pc.unique(pc.list_value_length(chunk))}
    if len(lengths) > 1:
        raise ValueError(f"column {column} has rows of several lengths")
    flat = [chunk.flatten() if pa.types.is_nested(chunk.type) else chunk for chunk in chunks]
    return np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in flat]).reshape(len(table), -1)


def default_source(table: pa.Table) -> np.ndarray:
    """Return who acted in every frame, [T], where no column of ours says it: a demonstrator, or a policy and a person."""
    for column in layout.INTERVENTION_COLUMNS:
        if column in table.column_names:
            return np.where(numbers(table, column)[:, 0].astype(bool), Source.INTERVENTION, Source.AUTONOMOUS)
    return np.full(len(table), Source.DEMONSTRATION)


def _rows(
    table: pa.Table, column: str, default: np.ndarray, dtype: type[np.generic], *, features: layout.Features, where: str
) -> np.ndarray:
    """Return a writable column in the dtype and with the axes that `Episode` has, those of the default."""
    if column not in table.column_names:
        return default.astype(dtype)
    width = math.prod(features[column]["shape"])
    try:
        rows = numbers(table, column).astype(dtype)
    except ValueError:
        rows = np.empty((0, 0), dtype)
    if rows.shape != (len(table), width):
        raise DataError(
            f"{where}: column {column} does not hold {width} numbers in every frame, which the shape "
            f"{features[column]['shape']} in meta/info.json promises. Correct info.json, or fetch the dataset again."
        )
    return rows[:, 0] if default.ndim == 1 else rows


def _constants(episode: Episode) -> dict[str, Any]:
    texts = ("episode_id", "task_id", "prompt", "policy_version", "env_id", "seed", "num_intervention_steps")
    histograms = {camera: _histogram(frames).tolist() for camera, frames in sorted(episode.images.items())}
    constants = {name: getattr(episode, name) for name in texts}
    if episode.prompts:
        constants["prompt_runs"] = [(prompt, len(list(frames))) for prompt, frames in groupby(episode.prompts)]
    if episode.limits_id:
        constants[layout.LIMITS_ID] = episode.limits_id
    if episode.subtasks:
        constants["subtask_runs"] = [(subtask, len(list(frames))) for subtask, frames in groupby(episode.subtasks)]
    return constants | {
        "outcome": str(episode.outcome),
        "length": len(episode),
        "digest": episode.digest(),
        "sim_state_dim": episode.sim_state.shape[1],
        "histograms": histograms,
    }


def _histogram(frames: np.ndarray) -> np.ndarray:
    """Return how often each of the 256 pixel values occurs per channel, int64 [3, 256]."""
    return np.stack([np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(frames.shape[-1])])


def _array(rows: np.ndarray) -> pa.Array:
    """Return an arrow column of [T] or [T, D]; D = 1 becomes a scalar column, as LeRobot has it."""
    rows = np.ascontiguousarray(rows)
    if rows.ndim == 1 or rows.shape[1] == 1:
        return pa.array(rows.reshape(-1))
    element = pa.field("element", pa.from_numpy_dtype(rows.dtype))
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=pa.list_(element, rows.shape[1]))


def _image_array(frames: np.ndarray) -> pa.Array:
    blocks: Sequence[bytes] = encode_frames(frames)
    names = [f"frame-{tick:06d}.png" for tick in range(len(blocks))]
    return pa.StructArray.from_arrays([pa.array(blocks, pa.binary()), pa.array(names, pa.string())], names=["bytes", "path"])
