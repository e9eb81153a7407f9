"""The layout of a LeRobot v3.0 dataset as LeRobot 0.6.1 reads it: paths, features, schemas and metadata tables.

Columns of ours, declared as ordinary features so that LeRobot loads them: policy_action, executed_action, source, next.reward,
value; for simulators sim_state, for robots those of `ROBOT_COLUMNS`. What LeRobot's info.json has no key for stands in
meta/opentau.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from opentau.types import ROBOT_COLUMNS, Interface

CODEBASE_VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
TASKS_PATH = "meta/tasks.parquet"
SUBTASKS_PATH = "meta/subtasks.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
EXTRAS_PATH = "meta/opentau.json"

OLDER_VERSIONS = ("v2.0", "v2.1")
"""Layouts with one data file and one video per episode."""
OLDER_EPISODES_PATH, OLDER_TASKS_PATH = "meta/episodes.jsonl", "meta/tasks.jsonl"
OLDER_FILES = (OLDER_EPISODES_PATH, OLDER_TASKS_PATH, "meta/episodes_stats.jsonl", "meta/stats.json")

STATE = "observation.state"
ACTION = "action"
IMAGE_PREFIX = "observation.images."
POLICY_ACTION, EXECUTED_ACTION = "policy_action", "executed_action"
SOURCE, REWARD, VALUE, SIM_STATE = "source", "next.reward", "value", "sim_state"
TIMESTAMP, FRAME_INDEX, EPISODE_INDEX, INDEX, TASK_INDEX = "timestamp", "frame_index", "episode_index", "index", "task_index"
SUBTASK_INDEX = "subtask_index"
CLIP_MASK = "clip_mask"
LIMITS_ID = "limits_id"
"""Column of meta/episodes, of robots only."""
COUNTERS = (TIMESTAMP, FRAME_INDEX, EPISODE_INDEX, INDEX, TASK_INDEX)
"""One number a frame, which says where the frame belongs."""

SUCCESS = "next.success"
"""Where LeRobot's environments say that an episode succeeded."""
INTERVENTION_COLUMNS = ("complementary_info.is_intervention", "is_intervention")
"""Where LeRobot's teleoperated policies say that a person acted."""
COMMON_COLUMNS = (STATE, ACTION, REWARD)
"""What is read of any dataset, beside cameras."""
OUR_COLUMNS = (*COMMON_COLUMNS, POLICY_ACTION, EXECUTED_ACTION, SOURCE, VALUE, SIM_STATE, *ROBOT_COLUMNS)

Features = dict[str, dict[str, Any]]


def data_path(plan_index: int) -> str:
    """Return where an episode's file lies, relative to the dataset; names sort in plan order up to a million episodes."""
    return DATA_PATH.format(chunk_index=plan_index // CHUNK_FILES, file_index=plan_index % CHUNK_FILES)


def video_path(plan_index: int, key: str) -> str:
    """Return where an episode's video of a feature lies, relative to the dataset; numbered like its data file."""
    chunk, file = divmod(plan_index, CHUNK_FILES)
    return VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file)


def plan_index_of(path: Path) -> int:
    """Return the plan index in a data file's path: the inverse of `data_path`."""
    chunk, file = path.parent.name.removeprefix("chunk-"), path.stem.removeprefix("file-")
    return int(chunk) * CHUNK_FILES + int(file)


def build_features(
    interface: Interface,
    *,
    sim_state_dim: int,
    has_subtasks: bool = False,
    is_robot: bool = False,
    video_info: Mapping[str, Mapping[str, Any]] | None = None,
) -> Features:
    """Return info.json's features, in the order of the columns of a data file.

    `video_info` describes the cameras that are stored as video; the others are image columns.
    """
    features: Features = {}
    for camera, shape in sorted(interface.cameras.items()):
        is_video = camera in (video_info or {})
        feature = {"dtype": "video" if is_video else "image", "shape": list(shape), "names": ["height", "width", "channels"]}
        features[IMAGE_PREFIX + camera] = feature | ({"info": dict(video_info[camera])} if video_info and is_video else {})
    features[STATE] = _vector("float32", interface.state_names)
    for key in (ACTION, POLICY_ACTION, EXECUTED_ACTION):
        features[key] = _vector("float32", interface.action_names)
    features |= {SOURCE: _scalar("int8"), REWARD: _scalar("float32"), VALUE: _scalar("float32")}
    if sim_state_dim:
        features[SIM_STATE] = {"dtype": "float64", "shape": [sim_state_dim], "names": None}
    if is_robot:
        features |= {name: _scalar(dtype) for name, dtype in ROBOT_COLUMNS.items() if name != CLIP_MASK}
        features[CLIP_MASK] = _vector(ROBOT_COLUMNS[CLIP_MASK], interface.action_names)
    features |= {TIMESTAMP: _scalar("float32"), FRAME_INDEX: _scalar("int64"), EPISODE_INDEX: _scalar("int64")}
    features |= {INDEX: _scalar("int64"), TASK_INDEX: _scalar("int64")}
    return features | ({SUBTASK_INDEX: _scalar("int64")} if has_subtasks else {})


def _vector(dtype: str, names: Sequence[str]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [len(names)], "names": list(names)}


def _scalar(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def arrow_schema(features: Features) -> pa.Schema:
    """Return the schema of a data file, with the metadata from which Hugging Face `datasets` knows images and lengths.

    Features stored as video have no column.
    """
    fields: list[pa.Field] = []
    hints: dict[str, dict[str, Any]] = {}
    for key, feature in features.items():
        if feature["dtype"] == "video":
            continue
        if feature["dtype"] == "image":
            fields.append(pa.field(key, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
            hints[key] = {"_type": "Image"}
            continue
        element = pa.type_for_alias(feature["dtype"])
        hint: dict[str, Any] = {"dtype": feature["dtype"], "_type": "Value"}
        (length,) = feature["shape"]
        if length == 1:
            fields.append(pa.field(key, element))
            hints[key] = hint
        else:
            fields.append(pa.field(key, pa.list_(pa.field("element", element), length)))
            hints[key] = {"feature": hint, "length": length, "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": hints}})})


def build_info(
    features: Features, *, fps: int, robot_type: str, num_episodes: int, num_frames: int, num_tasks: int
) -> dict[str, Any]:
    """Return the content of info.json."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "fps": fps,
        "features": features,
        "total_episodes": num_episodes,
        "total_frames": num_frames,
        "total_tasks": num_tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if any(feature["dtype"] == "video" for feature in features.values()) else None,
        "robot_type": robot_type,
        "splits": {"train": f"0:{num_episodes}"},
    }


def texts_table(texts: Sequence[str], *, name: str) -> pa.Table:
    """Return tasks.parquet ('task') or subtasks.parquet ('subtask').

    LeRobot reads them with pandas and looks texts up in the index, so the index is described here.
    """
    number = f"{name}_index"
    described = [
        {"name": number, "field_name": number, "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
        {"name": name, "field_name": name, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ]
    axis = {
        "name": None,
        "field_name": None,
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": {"encoding": "UTF-8"},
    }
    pandas = {
        "index_columns": [name],
        "column_indexes": [axis],
        "columns": described,
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    schema = pa.schema([(number, pa.int64()), (name, pa.string())], metadata={"pandas": json.dumps(pandas)})
    return pa.table({number: list(range(len(texts))), name: list(texts)}, schema=schema)


def interface_from_info(info: Mapping[str, Any]) -> Interface:
    """Return what a foreign dataset says of its robot; units and action space are not recorded there and stay 'unknown'."""
    features: Features = info["features"]
    state_names = dim_names(features.get(STATE))
    action_names = dim_names(features.get(ACTION))
    return Interface(
        cameras={camera_of(key): _image_shape(features[key]) for key in camera_keys(features)},
        state_names=state_names,
        state_units=("unknown",) * len(state_names),
        action_names=action_names,
        action_units=("unknown",) * len(action_names),
        action_space="unknown",
        control_hz=float(info["fps"]),
    )


def camera_keys(features: Features) -> list[str]:
    """Return the features that are colour cameras, whether stored as images or as video; depth is not read."""
    return sorted(key for key, feature in features.items() if feature["dtype"] in ("image", "video") and _is_colour(feature))


def _is_colour(feature: Mapping[str, Any]) -> bool:
    is_depth = (feature.get("info") or {}).get("is_depth_map", False)
    return not is_depth and len(feature["shape"]) == 3 and 3 in (feature["shape"][0], feature["shape"][2])


def camera_of(key: str) -> str:
    """Return the camera's name: 'front' of 'observation.images.front'; 'image' of the older 'observation.image'."""
    return key.removeprefix(IMAGE_PREFIX).removeprefix("observation.")


def dim_names(feature: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return one name per dimension; LeRobot's `names` may be a list, a dict holding one list, or missing."""
    if feature is None:
        return ()
    length = math.prod(feature["shape"])
    names = feature.get("names")
    if isinstance(names, dict) and len(names) == 1:
        (names,) = names.values()
    return tuple(names) if isinstance(names, list) and len(names) == length else tuple(str(dim) for dim in range(length))


def _image_shape(feature: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (Y, X, 3), also for features that are declared channel first."""
    first, second, third = feature["shape"]
    return (second, third, first) if first == 3 and third != 3 else (first, second, third)
