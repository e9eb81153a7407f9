"""Checks of the rows of one episode: times, numbering, tasks, shapes and numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import Catalog, EpisodeRow
from opentau.data.lerobot.episode_table import numbers
from opentau.data.parquet import read_rows
from opentau.data.tools.findings import Finding, Severity, dimension_name
from opentau.errors import DataError

# Shapes: T frames, D dimensions.

TIME_TOLERANCE_S = 1e-4
"""LeRobot refuses to load frames whose timestamp is further than this from frame_index / fps."""
GAP_FRAMES = 1.5
"""More than this between two frames is a frame that was lost."""
NUMERIC = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
"""Declared types of columns that hold numbers."""
MAY_BE_NAN = (layout.POLICY_ACTION, layout.VALUE)
"""Not a number where nobody was asked."""
FIX_NUMBERING = "Export the dataset with `opentau data export`, which counts frames anew."
FIX_TIMES = "Leave the episode out: its actions do not follow its observations at the stated rate."


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRows:
    """The numbers of one episode as they are stored."""

    index: int
    path: str
    columns: Mapping[str, np.ndarray]
    """Feature to float64 [T, D]; NaN where nothing is stored."""


def read_episode_rows(catalog: Catalog, row: EpisodeRow) -> EpisodeRows:
    """Read all numbers of an episode; a file that cannot be read, or rows of another width, raise `DataError`."""
    features = catalog.features
    columns = [name for name, feature in features.items() if feature["dtype"] in NUMERIC and len(feature["shape"]) == 1]
    path, where = catalog.root / row.data_path, f"dataset {catalog.root}, episode {row.index}"
    table = read_rows(path, columns=columns, key=layout.EPISODE_INDEX, value=row.index, where=where, fix=catalog.fix)
    arrays = {name: _checked(table, name, catalog=catalog, where=f"{where}, file {path}") for name in columns}
    return EpisodeRows(index=row.index, path=row.data_path, columns=arrays)


def _checked(table: pa.Table, name: str, *, catalog: Catalog, where: str) -> np.ndarray:
    shape = catalog.features[name]["shape"]
    if not len(table):
        return np.empty((0, math.prod(shape)))
    try:
        rows = numbers(table, name).astype(np.float64)
    except (ValueError, TypeError):
        rows = np.empty((len(table), 0))
    if rows.shape[1] != math.prod(shape):
        raise DataError(f"{where}: {name} does not hold {math.prod(shape)} numbers in every frame, meta/info.json says {shape}")
    return rows


def row_findings(rows: EpisodeRows, row: EpisodeRow, *, catalog: Catalog, first_frame: int) -> Iterator[Finding]:
    """Yield what is wrong with the rows of an episode; `first_frame` is the number of frames before it in the dataset."""
    length = len(next(iter(rows.columns.values()), ()))
    if length != row.length:
        text = f"{rows.path} holds {length} frames of episode {row.index}, meta/ says {row.length}"
        yield _finding("episode-length", text, catalog.fix, rows)
    if not length:
        return
    columns = rows.columns
    if layout.FRAME_INDEX in columns:
        yield from _numbering(rows, layout.FRAME_INDEX, np.arange(length))
    if layout.INDEX in columns:
        yield from _numbering(rows, layout.INDEX, first_frame + np.arange(length))
    if layout.TIMESTAMP in columns:
        yield from _times(rows, fps=catalog.info["fps"])
    if layout.TASK_INDEX in columns:
        yield from _tasks(rows, num_tasks=len(catalog.tasks))
    for name, feature in catalog.features.items():
        is_ours = name in layout.OUR_COLUMNS and name not in MAY_BE_NAN
        if name in columns and (is_ours or not feature["dtype"].startswith("float")):
            yield from _not_finite(rows, name, catalog.features)


def _numbering(rows: EpisodeRows, name: str, wanted_T: np.ndarray) -> Iterator[Finding]:
    found_T = rows.columns[name][:, 0]
    wrong = np.flatnonzero((found_T != wanted_T) & np.isfinite(found_T))
    if len(wrong):
        frame = int(wrong[0])
        text = f"{name} of episode {rows.index}, frame {frame} is {found_T[frame]:.16g}, counted it is {wanted_T[frame]}"
        yield _finding(name.replace("_", "-"), text, FIX_NUMBERING, rows, frame=frame)


def _times(rows: EpisodeRows, *, fps: float) -> Iterator[Finding]:
    """Yield one finding at most: a gap where frames were lost, else the first time that is not frame_index / fps."""
    times_T = rows.columns[layout.TIMESTAMP][:, 0]
    steps = np.diff(times_T) * fps
    gaps = np.flatnonzero(~((steps > 1 / GAP_FRAMES) & (steps < GAP_FRAMES)))
    if len(gaps):
        frame = int(gaps[0]) + 1
        text = (
            f"between frames {frame - 1} and {frame} of episode {rows.index} lie {steps[frame - 1] / fps:.4f} s, at {fps} Hz "
            f"it is {1 / fps:.4f} s; {len(gaps)} steps are like that"
        )
        yield _finding("time-gap", text, FIX_TIMES, rows, frame=frame)
        return
    wrong = irregular_frames(times_T, fps=fps)
    if len(wrong):
        frame = int(wrong[0])
        text = (
            f"timestamp of episode {rows.index}, frame {frame} is {times_T[frame]:.4f} s, at {fps} Hz it is {frame / fps:.4f} s"
        )
        yield _finding("timestamp", text, "Correct fps in meta/info.json, or export the dataset.", rows, frame=frame)


def irregular_frames(times_T: np.ndarray, *, fps: float) -> np.ndarray:
    """Return the frames whose timestamp is not frame_index / fps."""
    # float32 cannot hold 1e-4 s beyond some hundred seconds.
    tolerance_T = TIME_TOLERANCE_S + 2 * np.spacing(np.abs(times_T).astype(np.float32))
    return np.flatnonzero(~(np.abs(times_T - np.arange(len(times_T)) / fps) <= tolerance_T))


def _tasks(rows: EpisodeRows, *, num_tasks: int) -> Iterator[Finding]:
    task_T = rows.columns[layout.TASK_INDEX][:, 0]
    wrong = np.flatnonzero((task_T < 0) | (task_T >= num_tasks))
    if len(wrong):
        frame = int(wrong[0])
        where = f"task_index of episode {rows.index}, frame {frame}"
        text = f"{where} is {task_T[frame]:.16g}, meta/ lists the tasks 0 to {num_tasks - 1}"
        yield _finding("task", text, "Add the task to meta/, or leave the episode out.", rows, frame=frame)


def _not_finite(rows: EpisodeRows, name: str, features: layout.Features) -> Iterator[Finding]:
    finite_TD = np.isfinite(rows.columns[name])
    if finite_TD.all():
        return
    frame, dim = (int(number) for number in np.argwhere(~finite_TD)[0])
    where = dimension_name(name, dim, layout.dim_names(features[name]))
    text = (
        f"{where} of episode {rows.index}, frame {frame} is {rows.columns[name][frame, dim]}; "
        f"{int((~finite_TD).any(axis=1).sum())} frames are like that"
    )
    yield _finding("not-finite", text, "Leave the episode out, or record it again.", rows, frame=frame, dimension=where)


def _finding(code: str, text: str, fix: str, rows: EpisodeRows, *, frame: int | None = None, dimension: str = "") -> Finding:
    return Finding(
        severity=Severity.ERROR,
        code=code,
        text=text,
        fix=fix,
        path=rows.path,
        episodes=(rows.index,),
        frame=frame,
        dimension=dimension,
    )
