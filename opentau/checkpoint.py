"""Directories that are complete or absent: written as `.partial`, sealed by a manifest of hashes, renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentau.errors import CheckpointError, StorageError
from opentau.types import content_hash

MANIFEST = "manifest.json"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def partial_path(directory: Path) -> Path:
    """Return where `directory` is built before it is complete."""
    return directory.with_name(directory.name + ".partial")


def is_complete(directory: Path) -> bool:
    return (directory / MANIFEST).is_file()


def seal(partial: Path, directory: Path, info: Mapping[str, Any]) -> str:
    """Write the manifest of `partial`, rename it to `directory` and return the content id.

    The id covers the bytes of every file and `info["content"]`; other keys of `info` (times, hosts) are kept beside it.
    """
    files = {
        str(path.relative_to(partial)): file_sha256(path)
        for path in sorted(partial.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content_id = content_hash({"files": files, "content": info.get("content", {})})
    write_json(partial / MANIFEST, {"id": content_id, "files": files, **info})
    if directory.exists():
        shutil.rmtree(directory)
    os.replace(partial, directory)
    return content_id


@contextmanager
def building(directory: Path, info: dict[str, Any], *, fresh: bool = True) -> Iterator[Path]:
    """Yield the partial directory to write into; seal it when the block ends well, leave it when not.

    `info` may be filled inside the block. With `fresh=False` what an interrupted attempt left is kept (resume).
    """
    partial = partial_path(directory)
    if fresh and partial.exists():
        shutil.rmtree(partial)
    with storage_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        seal(partial, directory, info)


def read_manifest(directory: Path, *, verify: bool = False) -> dict[str, Any]:
    """Return the manifest; with `verify`, hash every file and raise `CheckpointError` for the first that differs."""
    path = directory / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{directory} is not complete: it has no {MANIFEST}. Was the stage that writes it interrupted?")
    manifest = json.loads(path.read_text())
    for name, digest in manifest["files"].items() if verify else ():
        if not (directory / name).is_file() or file_sha256(directory / name) != digest:
            raise CheckpointError(
                f"{directory / name} is damaged or missing: its sha256 is not the manifest's. Delete {directory} "
                "and resume the run, or fetch the checkpoint again."
            )
    return manifest


def write_json(path: Path, plain: Any) -> None:
    """Write plain data atomically."""
    write_text(path, json.dumps(plain, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    partial = path.with_name(path.name + ".partial")
    with storage_errors(path):
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a `StorageError` that names the place and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise StorageError(
            f"cannot write {path}: {os.strerror(error.errno)}. Free some space and start the run again; "
            "it resumes, nothing recorded is lost."
        ) from error
