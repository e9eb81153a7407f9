"""What meta/ of a LeRobot dataset says, v2.0, v2.1 and v3.0 alike: its description and where every episode lies."""

from __future__ import annotations

import hashlib
import json
import math
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentau.data.lerobot import layout
from opentau.data.parquet import damaged, read_schema, read_table
from opentau.errors import DataError

FIX_RECORDED = "Delete that file and resume the run, which records the episode again, or restore it from a copy."
FIX_FINISHED = "Restore it from a copy, or delete the dataset's folder and resume the run, which records it again."
FIX_FETCHED = "Fetch or record the dataset again."
SAFE_NAME = re.compile(r"[\w.\-]+")
"""Of features; they become parts of paths."""
PLACEHOLDERS = {"chunk_index", "file_index", "episode_chunk", "episode_index", "video_key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSpan:
    """Where the frames of one episode and camera lie."""

    path: str
    """Of the video file, relative to the dataset."""
    start_s: float
    """Time of the episode's first frame in that file, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRow:
    """One episode as meta/ lists it."""

    index: int
    """`episode_index`."""
    tasks: tuple[str, ...]
    """Its prompts; several where the task changes within the episode."""
    length: int
    """Frames."""
    data_path: str
    """Of the parquet file that holds its rows, relative to the dataset."""
    videos: Mapping[str, VideoSpan] = field(default_factory=dict)
    """Feature to where its frames are, for features stored as video."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of meta/episodes; ours are listed in `finishing.EPISODE_KEYS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The description of a dataset on disk."""

    root: Path
    info: Mapping[str, Any]
    """info.json."""
    rows: tuple[EpisodeRow, ...]
    """In the order of their index, which counts from zero."""
    tasks: tuple[str, ...]
    """Prompt per `task_index`."""
    subtasks: tuple[str, ...]
    """Text per `subtask_index`; empty where the dataset has no subtasks."""
    files: tuple[Path, ...]
    """The files that `rows` was read from."""

    @property
    def is_ours(self) -> bool:
        return (self.root / layout.EXTRAS_PATH).exists()

    @property
    def fix(self) -> str:
        """What to do about a damaged file."""
        return FIX_FINISHED if self.is_ours else FIX_FETCHED

    @property
    def features(self) -> layout.Features:
        return self.info["features"]

    def dataset_id(self) -> str:
        """Return a content hash of what meta/ says of the episodes; the same wherever the dataset lies."""
        digest = hashlib.sha256((self.root / layout.INFO_PATH).read_bytes())
        for path in self.files:
            digest.update(path.read_bytes())
        return digest.hexdigest()


def read_catalog(root: Path) -> Catalog:
    """Read meta/ of a dataset; one that is missing, unfinished, damaged or of another layout raises `DataError`."""
    info = read_info(root)
    version = info.get("codebase_version")
    if version == layout.CODEBASE_VERSION:
        files = tuple(sorted(root.glob("meta/episodes/*/*.parquet")))
        texts = tuple(path for path in (root / layout.TASKS_PATH, root / layout.SUBTASKS_PATH) if path.exists())
        rows, tasks = _rows_of_tables(root, info, files), _texts_of_table(root, layout.TASKS_PATH, number="task_index")
    elif version in layout.OLDER_VERSIONS:
        files, texts = tuple(path for path in (root / name for name in layout.OLDER_FILES) if path.exists()), ()
        rows, tasks = _rows_of_lines(root, info), _tasks_of_lines(root)
    else:
        known = ", ".join((*layout.OLDER_VERSIONS, layout.CODEBASE_VERSION))
        raise DataError(
            f"dataset {root} has the layout {version!r}, this reads {known}; convert it with LeRobot's conversion scripts"
        )
    for row in rows:
        _check_row(row, root)
    rows = sorted(rows, key=lambda row: row.index)
    if [row.index for row in rows] != list(range(len(rows))) or not rows:
        raise DataError(f"dataset {root}: meta/episodes does not list the episodes 0, 1, … once each. {FIX_FETCHED}")
    subtasks: tuple[str, ...] = ()
    if layout.SUBTASK_INDEX in info["features"] and (root / layout.SUBTASKS_PATH).exists():
        subtasks = _texts_of_table(root, layout.SUBTASKS_PATH, number=layout.SUBTASK_INDEX)
    return Catalog(root=root, info=info, rows=tuple(rows), tasks=tasks, subtasks=subtasks, files=(*files, *texts))


def read_info(root: Path) -> dict[str, Any]:
    """Return info.json; one that is missing, or lacks what every version has, raises `DataError`."""
    path = root / layout.INFO_PATH
    if not path.exists():
        num_files = len(list(root.glob("data/chunk-*/*.parquet")))
        raise DataError(
            f"dataset {root} has no {layout.INFO_PATH}: it does not exist or is not finished ({num_files} data files are "
            "there). Check the path, or resume the run that records it."
        )
    info = read_json(path, where=f"dataset {root}")
    missing = [key for key in ("codebase_version", "fps", "features", "data_path") if key not in info]
    if missing:
        raise damaged(path, f"it has no {missing[0]!r}", where=f"dataset {root}", fix=FIX_FETCHED)
    problem = _problem_of(info)
    if problem:
        raise damaged(path, problem, where=f"dataset {root}", fix=FIX_FETCHED)
    return info


def _check_row(row: EpisodeRow, root: Path) -> None:
    """Raise `DataError` for an episode whose place or length is no number."""
    times_s = [span.start_s for span in row.videos.values()]
    is_numbered = isinstance(row.index, int) and isinstance(row.length, int) and row.length >= 0
    if not is_numbered or not all(isinstance(start_s, int | float) and math.isfinite(start_s) for start_s in times_s):
        raise DataError(
            f"dataset {root}: meta/ lists an episode {row.index!r} of {row.length!r} frames, in videos from {times_s} s on; "
            f"they must be numbers. {FIX_FETCHED}"
        )


def _problem_of(info: Mapping[str, Any]) -> str:
    """Return which value of info.json nothing can be done with, or an empty string."""
    for name in ("fps", "chunks_size"):
        value = info.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            return f"{name} is {value!r}; it must be a positive number"
    features = info["features"]
    if not isinstance(features, dict) or not features:
        return f"features are {features!r}; they must describe every column"
    for key, feature in features.items():
        if not SAFE_NAME.fullmatch(key) or ".." in key.split("."):
            return f"feature {key!r} is no name; letters, digits and ._- are"
        if not isinstance(feature, dict) or not isinstance(feature.get("dtype"), str):
            return f"feature {key} has no dtype"
        shape = feature.get("shape")
        if not isinstance(shape, list) or not all(isinstance(side, int) and side > 0 for side in shape):
            return f"the shape of feature {key} is {shape!r}; it must be a list of positive numbers"
        if not isinstance(feature.get("info") or {}, dict):
            return f"the info of feature {key} is {feature['info']!r}; it must be an object"
    has_video = any(feature["dtype"] == "video" for feature in features.values())
    for name in ("data_path", *(["video_path"] if has_video else [])):
        problem = _problem_of_template(info.get(name))
        if problem:
            return f"{name} is {info.get(name)!r}; {problem}"
    return ""


def _problem_of_template(template: object) -> str:
    """Return why a template of paths cannot be used, or an empty string."""
    if not isinstance(template, str):
        return "it must say where files lie"
    if template.startswith("/") or ".." in Path(template).parts:
        return "it must lie within the dataset"
    unknown = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None} - PLACEHOLDERS
    return f"it may hold {', '.join(sorted(PLACEHOLDERS))}, not {min(unknown)!r}" if unknown else ""


def read_json(path: Path, *, where: str) -> dict[str, Any]:
    """Return the object in a JSON file; anything wrong with it raises `DataError`."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error, where=where, fix=FIX_FETCHED) from error
    if not isinstance(plain, dict):
        raise damaged(path, "it holds no JSON object", where=where, fix=FIX_FETCHED)
    return plain


def _rows_of_tables(root: Path, info: Mapping[str, Any], files: tuple[Path, ...]) -> list[EpisodeRow]:
    """Read meta/episodes of v3.0, without the statistics in it."""
    where = f"dataset {root}"
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    rows = []
    for path in files:
        schema = read_schema(path, where=where, fix=FIX_FETCHED)
        names = [name for name in schema.names if not name.startswith("stats/")]
        for plain in read_table(path, columns=names, where=where, fix=FIX_FETCHED).to_pylist():
            try:
                rows.append(_row_of_plain(plain, info, videos))
            except KeyError as error:
                raise damaged(path, f"it has no column {error}", where=where, fix=FIX_FETCHED) from error
            except (TypeError, ValueError) as error:
                raise damaged(path, f"an episode has no place or no tasks ({error})", where=where, fix=FIX_FETCHED) from error
    return rows


def _row_of_plain(plain: Mapping[str, Any], info: Mapping[str, Any], videos: list[str]) -> EpisodeRow:
    def placed(template: str, prefix: str, **names: str) -> str:
        chunk, file = plain[f"{prefix}/chunk_index"], plain[f"{prefix}/file_index"]
        return template.format(chunk_index=chunk, file_index=file, **names)

    return EpisodeRow(
        index=plain["episode_index"],
        tasks=tuple(plain["tasks"]),
        length=plain["length"],
        data_path=placed(info["data_path"], "data"),
        videos={
            key: VideoSpan(
                path=placed(info["video_path"], f"videos/{key}", video_key=key),
                start_s=plain[f"videos/{key}/from_timestamp"],
            )
            for key in videos
        },
        constants={name: value for name, value in plain.items() if "/" not in name},
    )


def _texts_of_table(root: Path, name: str, *, number: str) -> tuple[str, ...]:
    """Read tasks.parquet or subtasks.parquet, whose column of texts is called by LeRobot's version at the time."""
    path = root / name
    table = read_table(path, where=f"dataset {root}", fix=FIX_FETCHED)
    texts = [column for column in table.column_names if column != number]
    if number not in table.column_names or len(texts) != 1:
        raise damaged(path, f"its columns are {table.column_names}", where=f"dataset {root}", fix=FIX_FETCHED)
    return _ordered(zip(table[number].to_pylist(), table[texts[0]].to_pylist(), strict=True), path, root)


def _rows_of_lines(root: Path, info: Mapping[str, Any]) -> list[EpisodeRow]:
    """Read episodes.jsonl of v2.0 and v2.1, where every episode has files of its own."""
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    rows = []
    for plain in _lines(root, layout.OLDER_EPISODES_PATH, needed=("episode_index", "tasks", "length")):
        index = plain["episode_index"]
        names = {"episode_index": index, "episode_chunk": index // info.get("chunks_size", layout.CHUNK_FILES)}
        rows.append(
            EpisodeRow(
                index=index,
                tasks=tuple(plain["tasks"]),
                length=plain["length"],
                data_path=info["data_path"].format(**names),
                videos={key: VideoSpan(path=info["video_path"].format(video_key=key, **names), start_s=0.0) for key in videos},
                constants=plain,
            )
        )
    return rows


def _tasks_of_lines(root: Path) -> tuple[str, ...]:
    lines = _lines(root, layout.OLDER_TASKS_PATH, needed=("task_index", "task"))
    return _ordered(((plain["task_index"], plain["task"]) for plain in lines), root / layout.OLDER_TASKS_PATH, root)


def _lines(root: Path, name: str, *, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file; a line that is none, or lacks a key, raises `DataError`."""
    path, where = root / name, f"dataset {root}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, error, where=where, fix=FIX_FETCHED) from error
    for number, line in enumerate(lines, 1):
        try:
            plain = json.loads(line)
            missing = [key for key in needed if key not in plain]
        except (ValueError, TypeError) as error:
            raise damaged(path, f"line {number}: {error}", where=where, fix=FIX_FETCHED) from error
        if missing:
            raise damaged(path, f"line {number} has no {missing[0]!r}", where=where, fix=FIX_FETCHED)
        yield plain


def _ordered(pairs: Iterable[tuple[int, str]], path: Path, root: Path) -> tuple[str, ...]:
    """Return texts by their number; numbers that are not 0, 1, … raise `DataError`."""
    tasks = dict(pairs)
    if sorted(tasks) != list(range(len(tasks))):
        raise damaged(path, f"its task numbers are {sorted(tasks)[:5]} …", where=f"dataset {root}", fix=FIX_FETCHED)
    return tuple(tasks[number] for number in range(len(tasks)))
