"""Checks of meta/ and of the files it names, without the rows in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import av
import pyarrow as pa

from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import Catalog, read_catalog, read_info
from opentau.data.parquet import read_schema
from opentau.data.tools.check_rows import NUMERIC
from opentau.data.tools.findings import Finding, Severity
from opentau.errors import DataError

FIX_COUNT = "Correct meta/info.json: loaders trust it."


def open_catalog(root: Path) -> Catalog | Finding:
    """Return the catalog, or why there is none."""
    try:
        version = read_info(root).get("codebase_version")
        if version not in (layout.CODEBASE_VERSION, *layout.OLDER_VERSIONS):
            known = ", ".join((*layout.OLDER_VERSIONS, layout.CODEBASE_VERSION))
            return Finding(
                severity=Severity.ERROR,
                code="version",
                text=f"codebase_version is {version!r}, known are {known}",
                fix="Correct meta/info.json, or convert the dataset with LeRobot's conversion scripts.",
                path=layout.INFO_PATH,
            )
        return read_catalog(root)
    except DataError as error:
        return Finding(
            severity=Severity.ERROR, code="metadata", text=str(error), fix="Nothing else can be checked until it is mended."
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # meta/ is whatever somebody wrote: keys that are missing deep inside it are a finding too.
        text = f"meta/ cannot be understood ({type(error).__name__}: {error})"
        return Finding(severity=Severity.ERROR, code="metadata", text=text, fix="Fetch or record the dataset again.")


def count_findings(catalog: Catalog) -> Iterator[Finding]:
    """Yield the counts of info.json that are not those of the episodes listed, and gaps in their numbering."""
    counts = {
        "total_episodes": len(catalog.rows),
        "total_frames": sum(row.length for row in catalog.rows),
        "total_tasks": len(catalog.tasks),
    }
    for name, count in counts.items():
        stated = catalog.info.get(name)
        if stated != count:
            text = f"{name} is {stated}, the episodes and tasks listed in meta/ make {count}"
            yield Finding(severity=Severity.ERROR, code="count", text=text, fix=FIX_COUNT, path=layout.INFO_PATH)
    first_frame = 0
    for row in catalog.rows:
        stated = row.constants.get("dataset_from_index", first_frame)
        if stated != first_frame:
            yield Finding(
                severity=Severity.ERROR,
                code="count",
                text=f"dataset_from_index of episode {row.index} is {stated}, the episodes before it have {first_frame} frames",
                fix="Export the dataset again with `opentau data export`, which numbers the frames.",
                path=str(catalog.files[0].relative_to(catalog.root)),
                episodes=(row.index,),
            )
            return
        first_frame += row.length


def file_findings(catalog: Catalog) -> tuple[list[Finding], set[str]]:
    """Return what is wrong with data and video files, and the files that cannot be used."""
    findings: list[Finding] = []
    for path, episodes in _episodes_of_data(catalog).items():
        finding = _data_finding(catalog, path, episodes)
        findings += [finding] if finding else []
    for path, spans in _spans_of_videos(catalog).items():
        finding = _video_finding(catalog, path, spans)
        findings += [finding] if finding else []
    fatal = ("missing-file", "damaged-file", "missing-column", "column-type")
    unusable = {finding.path for finding in findings if finding.code in fatal}
    return findings, unusable


def _episodes_of_data(catalog: Catalog) -> dict[str, tuple[int, ...]]:
    episodes = defaultdict(list)
    for row in catalog.rows:
        episodes[row.data_path].append(row.index)
    return {path: tuple(indices) for path, indices in episodes.items()}


def _spans_of_videos(catalog: Catalog) -> dict[str, list[tuple[int, float]]]:
    """Return per video file the episodes in it and when each ends, seconds."""
    spans = defaultdict(list)
    for row in catalog.rows:
        for span in row.videos.values():
            spans[span.path].append((row.index, span.start_s + row.length / catalog.info["fps"]))
    return spans


def _data_finding(catalog: Catalog, path: str, episodes: tuple[int, ...]) -> Finding | None:
    if not (catalog.root / path).exists():
        return _broken("missing-file", path, f"{path} is missing; {len(episodes)} episodes lie in it", catalog, episodes)
    try:
        schema = read_schema(catalog.root / path, where=f"dataset {catalog.root}", fix=catalog.fix)
    except DataError:
        text = f"{path} is no whole parquet file; {len(episodes)} episodes lie in it"
        return _broken("damaged-file", path, text, catalog, episodes)
    missing = sorted(_stored_columns(catalog) - set(schema.names))
    if missing:
        text = f"{path} has no column {missing[0]}, which meta/info.json lists"
        return _broken("missing-column", path, text, catalog, episodes)
    return _type_finding(catalog, path, schema, episodes) or _width_finding(catalog, path, schema)


def _stored_columns(catalog: Catalog) -> set[str]:
    return {key for key, feature in catalog.features.items() if feature["dtype"] != "video"}


def _type_finding(catalog: Catalog, path: str, schema: pa.Schema, episodes: tuple[int, ...]) -> Finding | None:
    """Compare the declared types with what is stored: numbers, or images."""
    for key in sorted(_stored_columns(catalog)):
        dtype, stored = catalog.features[key]["dtype"], schema.field(key).type
        value = stored
        while pa.types.is_list(value) or pa.types.is_fixed_size_list(value) or pa.types.is_large_list(value):
            value = value.value_type
        is_number = pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)
        is_image = pa.types.is_struct(stored) and any(field.name == "bytes" for field in stored)
        is_wrong = (dtype in NUMERIC and not is_number) or (dtype == "image" and not is_image)
        if is_wrong or (key in layout.COUNTERS and value != stored):
            text = f"{path}: column {key} holds {stored}, meta/info.json says {dtype}"
            return _broken("column-type", path, text, catalog, episodes)
    return None


def _width_finding(catalog: Catalog, path: str, schema: pa.Schema) -> Finding | None:
    """Compare the declared shapes of vectors with lists of fixed length; others are compared row by row."""
    for key in sorted(_stored_columns(catalog)):
        shape, stored = catalog.features[key]["shape"], schema.field(key).type
        if pa.types.is_fixed_size_list(stored) and len(shape) == 1 and shape[0] != stored.list_size:
            return Finding(
                severity=Severity.ERROR,
                code="shape",
                text=f"{key} has {stored.list_size} numbers a frame in {path}, meta/info.json says {shape}",
                fix="Correct meta/info.json, or fetch the dataset again.",
                path=path,
                dimension=key,
            )
    return None


def _video_finding(catalog: Catalog, path: str, spans: list[tuple[int, float]]) -> Finding | None:
    episodes = tuple(index for index, _ in spans)
    if not (catalog.root / path).exists():
        return _broken("missing-file", path, f"{path} is missing; {len(spans)} episodes are in it", catalog, episodes)
    try:
        with av.open(str(catalog.root / path)) as container:
            stream = container.streams.video[0]
            num_frames, rate = stream.frames, float(stream.average_rate or catalog.info["fps"])
    except (av.FFmpegError, OSError, IndexError) as error:
        text = f"{path} is no whole video ({error}); {len(spans)} episodes are in it"
        return _broken("damaged-file", path, text, catalog, episodes)
    short = tuple(index for index, end_s in spans if num_frames and num_frames < (end_s - 0.5 / catalog.info["fps"]) * rate)
    if not short:
        return None
    ends_s = max(end_s for _, end_s in spans)
    text = (
        f"{path} has {num_frames} frames at {rate:g} Hz, which is {num_frames / rate:.2f} s; its episodes end at {ends_s:.2f} s"
    )
    return Finding(severity=Severity.ERROR, code="short-video", text=text, fix=catalog.fix, path=path, episodes=short)


def _broken(code: str, path: str, text: str, catalog: Catalog, episodes: tuple[int, ...]) -> Finding:
    return Finding(severity=Severity.ERROR, code=code, text=text, fix=catalog.fix, path=path, episodes=episodes)
