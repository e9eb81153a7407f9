"""Parquet files that are whole or absent: durable commits, page checksums, and errors that name the file and the fix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from opentau.checkpoint import storage_errors
from opentau.errors import DataError


def commit_table(table: pa.Table, path: Path) -> None:
    """Write a table as one row group; after return it survives a power cut, after a failure no half file is left.

    Equal tables give equal bytes. Pages carry checksums, which `read_table` verifies. A full disk raises `StorageError`.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(1, len(table)), use_dictionary=False, write_page_checksum=True)
    commit_bytes(sink.getvalue(), path)


def commit_bytes(block: bytes | pa.Buffer, path: Path) -> None:
    """Write a file atomically and durably: `.partial`, fsync, rename, fsync of the folder."""
    partial = path.with_name(path.name + ".partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                file.write(block)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_table(path: Path, *, where: str, fix: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole parquet file, checksums verified; anything wrong with it raises `DataError`.

    `where` says in the message what the file belongs to, `fix` what to do about it.
    """
    with _opened(path, where=where, fix=fix) as file:
        return file.read(columns=columns, use_threads=False)


def read_rows(path: Path, *, columns: Sequence[str], key: str, value: int, where: str, fix: str) -> pa.Table:
    """Read the rows whose column `key` is `value` without reading the row groups of others.

    Rows that do not lie together raise `DataError`: their order would be a guess.
    """
    with _opened(path, where=where, fix=fix) as file:
        missing = {key, *columns} - set(file.schema_arrow.names)
        if missing:
            raise damaged(path, f"it has no column {min(missing)}", where=where, fix=fix)
        groups = [group for group in range(file.num_row_groups) if _may_hold(file.metadata.row_group(group), key, value)]
        table = file.read_row_groups(groups, columns=[*columns, key], use_threads=False)
    rows = np.flatnonzero(table[key].to_numpy() == value)
    if not len(rows):
        return table.slice(0, 0)
    if rows[-1] - rows[0] + 1 != len(rows):
        raise damaged(path, f"the rows of {key} {value} do not lie together", where=where, fix=fix)
    return table.slice(rows[0], len(rows))


def _may_hold(group: pq.RowGroupMetaData, key: str, value: int) -> bool:
    """Return whether the statistics of a row group allow `value` in column `key`."""
    for column in map(group.column, range(group.num_columns)):
        if column.path_in_schema == key and column.statistics is not None and column.statistics.has_min_max:
            return column.statistics.min <= value <= column.statistics.max
    return True


@contextmanager
def _opened(path: Path, *, where: str, fix: str) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error, where=where, fix=fix) from error


def read_schema(path: Path, *, where: str, fix: str) -> pa.Schema:
    """Read only the footer of a parquet file; a truncated file raises `DataError`."""
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error, where=where, fix=fix) from error


def damaged(path: Path, reason: object, *, where: str, fix: str) -> DataError:
    """Return the error for a file that cannot be used."""
    text = str(reason).strip().splitlines()
    return DataError(f"{where}: {path} is missing or damaged ({text[0] if text else type(reason).__name__}). {fix}")
