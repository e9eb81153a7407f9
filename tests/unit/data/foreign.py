"""Lays out small datasets as others do: LeRobot v2.1 and v3.0 with video, several tasks an episode, rolled-over files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 10
SIZE = (32, 48, 3)
CAMERA = "observation.images.front"
LENGTHS = (5, 7, 4)
TASKS = ("pick the cup", "place the cup")


def pixels(episode: int, length: int) -> np.ndarray:
    """Return smooth frames that a codec keeps apart, uint8 [T, Y, X, 3]: a square that moves over a grey of the episode's."""
    frames = np.full((length, *SIZE), 40 + 30 * episode, np.uint8)
    for tick in range(length):
        frames[tick, 8:24, 4 * tick : 4 * tick + 16] = (250, 120, 30)
    return frames


def write_video(path: Path, frames: np.ndarray, *, codec: str = "libx264", fps: int = FPS) -> None:
    """Encode uint8 [T, Y, X, 3]; H.264 with frames that refer to later ones, or AV1 as LeRobot writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"libx264": {"crf": "18", "bf": "2", "g": "4"}, "libsvtav1": {"crf": "30", "g": "2", "preset": "12"}}[codec]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def decode_all(path: Path) -> np.ndarray:
    """Decode a whole file the plain way, uint8 [T, Y, X, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def columns(episode: int, length: int, *, first: int, task: Sequence[int]) -> dict[str, Any]:
    """Return the columns of an episode; `observation.state` and `action` are functions of episode and frame."""
    ticks = np.arange(length)
    state = np.stack([ticks + 100 * episode, -ticks, ticks * 0.5], axis=1).astype(np.float32)
    return {
        "observation.state": state,
        "action": state[:, :2] / 10,
        "timestamp": (ticks / FPS).astype(np.float32),
        "frame_index": ticks,
        "episode_index": np.full(length, episode),
        "index": first + ticks,
        "task_index": np.array(task),
        "subtask_index": ticks % 2,
    }


def table_of(plain: Mapping[str, np.ndarray], *, is_fixed: bool = True) -> pa.Table:
    """Return a parquet table; lists of fixed length as LeRobot writes today, or of any length as older versions did."""
    arrays = {}
    for name, rows in plain.items():
        if rows.ndim == 1:
            arrays[name] = pa.array(rows)
        elif is_fixed:
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        else:
            arrays[name] = pa.array(rows.tolist(), pa.list_(pa.float32()))
    return pa.table(arrays)


def features() -> dict[str, Any]:
    scalar = {"timestamp": "float32"} | {
        name: "int64" for name in ("frame_index", "episode_index", "index", "task_index", "subtask_index")
    }
    video = {"dtype": "video", "shape": list(SIZE), "names": ["height", "width", "channels"], "info": {"video.codec": "h264"}}
    return {
        CAMERA: video,
        "observation.state": {"dtype": "float32", "shape": [3], "names": {"motors": ["a", "b", "c"]}},
        "action": {"dtype": "float32", "shape": [2], "names": None},
        **{name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in scalar.items()},
    }


def tasks_of(episode: int, length: int) -> list[int]:
    """Return the task of every frame: episode 1 changes it after its third frame."""
    return [int(tick >= 3) if episode == 1 else episode % 2 for tick in range(length)]


def write_v21(root: Path) -> Path:
    """Lay out a v2.1 dataset: one parquet file and one video per episode, descriptions as JSON lines."""
    names = {"chunk": "chunk-{episode_chunk:03d}", "episode": "episode_{episode_index:06d}"}
    info = {
        "codebase_version": "v2.1", "robot_type": "so100", "total_episodes": len(LENGTHS), "total_frames": sum(LENGTHS),
        "total_tasks": len(TASKS), "total_videos": len(LENGTHS), "total_chunks": 2, "chunks_size": 2, "fps": FPS,
        "splits": {"train": f"0:{len(LENGTHS)}"}, "features": features(),
        "data_path": f"data/{names['chunk']}/{names['episode']}.parquet",
        "video_path": f"videos/{names['chunk']}/{{video_key}}/{names['episode']}.mp4",
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    _write_lines(root / "meta/tasks.jsonl", [{"task_index": index, "task": task} for index, task in enumerate(TASKS)])
    episodes, first = [], 0
    for episode, length in enumerate(LENGTHS):
        task = tasks_of(episode, length)
        tasks = [TASKS[index] for index in sorted(set(task))]
        episodes.append({"episode_index": episode, "tasks": tasks, "length": length})
        where = {"episode_chunk": episode // 2, "episode_index": episode}
        path = root / info["data_path"].format(**where)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table_of(columns(episode, length, first=first, task=task), is_fixed=False), path)
        write_video(root / info["video_path"].format(video_key=CAMERA, **where), pixels(episode, length))
        first += length
    _write_lines(root / "meta/episodes.jsonl", episodes)
    return root


def write_v30(root: Path, *, codec: str = "libx264", has_named_index: bool = True) -> Path:
    """Lay out a v3.0 dataset whose files rolled over after two episodes, data and video at different ones."""
    data_of, video_of = (0, 0, 1), (0, 1, 1)
    info = {
        "codebase_version": "v3.0", "robot_type": "so100", "fps": FPS, "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS), "total_tasks": len(TASKS), "chunks_size": 1000, "features": features(),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "splits": {"train": f"0:{len(LENGTHS)}"},
    }  # fmt: skip
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    texts = "task" if has_named_index else "__index_level_0__"
    pq.write_table(pa.table({"task_index": range(len(TASKS)), texts: TASKS}), root / "meta/tasks.parquet")
    rows, first = [], 0
    for episode, length in enumerate(LENGTHS):
        before = sum(LENGTHS[other] for other in range(episode) if video_of[other] == video_of[episode])
        task = tasks_of(episode, length)
        rows.append(
            {
                "episode_index": episode, "tasks": [TASKS[index] for index in sorted(set(task))], "length": length,
                "data/chunk_index": 0, "data/file_index": data_of[episode],
                f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": video_of[episode],
                f"videos/{CAMERA}/from_timestamp": before / FPS, f"videos/{CAMERA}/to_timestamp": (before + length) / FPS,
                "stats/action/count": [length], "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
            }
        )  # fmt: skip
        first += length
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    starts = np.cumsum((0, *LENGTHS))
    for file in set(data_of):
        tables = [
            table_of(columns(episode, LENGTHS[episode], first=starts[episode], task=tasks_of(episode, LENGTHS[episode])))
            for episode in range(len(LENGTHS))
            if data_of[episode] == file
        ]
        path = root / info["data_path"].format(chunk_index=0, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
    for file in set(video_of):
        frames = [pixels(episode, LENGTHS[episode]) for episode in range(len(LENGTHS)) if video_of[episode] == file]
        path = root / info["video_path"].format(video_key=CAMERA, chunk_index=0, file_index=file)
        write_video(path, np.concatenate(frames), codec=codec)
    return root


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
