"""Decoded frames on disk, memory-mapped, within a budget: what is used least goes first, what is damaged is decoded again."""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from opentau.checkpoint import storage_errors
from opentau.errors import DataError, StorageError

# Shapes: T frames, Y and X image rows and columns.

SUFFIX = ".frames"
COUNT = "bytes"
"""Bytes that the files take, as text; locked while it changes."""
HEADER = struct.Struct("<8sIIIII36x")
"""Magic, T, Y, X, channels, crc32 of the pixels; 64 bytes, so that pixels are aligned."""
MAGIC = b"OTFRAME1"
PARTIAL = ".partial"
ABANDONED_S = 3600.0
"""A file that is this old and still unfinished was left by a process that died."""
ROOM_SHARE = 0.1
"""An eviction makes this share of the budget free beyond what it must, so that not every new file evicts."""
MAX_TRIES = 4
MAX_MAPPED_BYTES = 1 << 30


class FrameCache:
    """Arrays uint8 [T, Y, X, 3] by name in one directory, shared by any number of processes.

    Files appear whole (`.partial`, rename) and are checked against their crc32 when a process first maps them. Over the budget
    the files that were mapped longest ago are deleted; a process that still has one mapped keeps its pixels.
    """

    def __init__(self, directory: Path, *, budget_bytes: int) -> None:
        if budget_bytes < 1:
            raise DataError(f"the budget of the frame cache is {budget_bytes} bytes; give it at least one episode's frames")
        self.directory = directory
        self.budget_bytes = budget_bytes
        self._mapped: OrderedDict[str, np.ndarray] = OrderedDict()
        self._mapped_bytes = 0
        self._checked: dict[str, int] = {}
        """Name to the inode whose pixels this process has checked."""
        self.num_built = 0
        """Arrays decoded by this process so far."""

    def frames(self, name: str, build: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a name, read-only; `build` makes it where it is missing, damaged or was evicted."""
        if name in self._mapped:
            self._mapped.move_to_end(name)
            return self._mapped[name]
        path = self.directory / (name + SUFFIX)
        for _ in range(MAX_TRIES):
            frames = self._map(name, path)
            if frames is not None:
                self._remember(name, frames)
                return frames
            self._write(path, build())  # and try again: another process may evict it before it is mapped
        raise StorageError(
            f"the frame cache cannot read back {path}, written {MAX_TRIES} times; check the disk, or set another OPENTAU_CACHE"
        )

    def _map(self, name: str, path: Path) -> np.ndarray | None:
        """Return the array in a file, or None where it is missing or damaged; marks it as used."""
        try:
            with open(path, "rb") as file:
                magic, *shape, crc = HEADER.unpack(file.read(HEADER.size))
                if magic != MAGIC:
                    return None
                os.utime(file.fileno())
                inode = os.fstat(file.fileno()).st_ino
                frames: np.ndarray = np.memmap(file, np.uint8, mode="r", offset=HEADER.size, shape=tuple(shape))
        except (OSError, struct.error, ValueError):
            return None
        if self._checked.get(name) != inode:
            if zlib.crc32(frames.data) != crc:
                return None
            self._checked[name] = inode
        return frames

    def size_bytes(self) -> int:
        """Return what the files take now."""
        return sum(size for _, size, _ in self._files())

    def _write(self, path: Path, frames: np.ndarray) -> None:
        """Make room and write one file; two processes that write the same one do so with equal bytes."""
        num_bytes = HEADER.size + frames.nbytes
        if num_bytes > self.budget_bytes:
            raise DataError(
                f"one episode and camera of {path.name} takes {num_bytes} bytes, the frame cache may hold {self.budget_bytes}; "
                "raise mixture.cache_gb"
            )
        frames = np.ascontiguousarray(frames)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
        header = HEADER.pack(MAGIC, *frames.shape, zlib.crc32(frames.data))
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reserve(partial, num_bytes)
            try:
                with open(partial, "r+b") as file:
                    file.write(header)
                    file.write(frames.data)
                os.replace(partial, path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
        self.num_built += 1

    def _reserve(self, partial: Path, num_bytes: int) -> None:
        """Create an unfinished file of its final size; where that exceeds the budget, delete others until it fits.

        The count is shared with other processes and only ever too high, after a kill or where two of them write one file;
        every eviction counts afresh, unfinished files included.
        """
        with open(self.directory / COUNT, "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            total = (int(text) if text.isdigit() else self.size_bytes()) + num_bytes
            if total > self.budget_bytes:
                total = self._evict(max(0, int(self.budget_bytes * (1 - ROOM_SHARE)) - num_bytes)) + num_bytes
            file.truncate(0)
            file.write(str(total))
            file.flush()
            with open(partial, "wb") as unfinished:
                unfinished.truncate(num_bytes)

    def _evict(self, limit_bytes: int) -> int:
        """Delete the files used longest ago until the rest takes at most `limit_bytes`; return what it takes."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for used_s, size, path in files:
            if total <= limit_bytes:
                break
            if path.suffix == PARTIAL and time.time() - used_s < ABANDONED_S:
                continue
            path.unlink(missing_ok=True)
            total -= size
            self._forget(str(path.relative_to(self.directory)).removesuffix(SUFFIX))
        return total

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return (last use, bytes, path) of every file, unfinished ones included."""
        found = []
        for folder in (self.directory, *(entry for entry in self.directory.glob("*") if entry.is_dir())):
            with os.scandir(folder) as entries:
                for entry in entries:
                    if SUFFIX in entry.name:
                        try:
                            stat = entry.stat()
                        except FileNotFoundError:
                            continue  # evicted by another process
                        found.append((stat.st_mtime, stat.st_size, Path(entry.path)))
        return found

    def _remember(self, name: str, frames: np.ndarray) -> None:
        """Keep a mapping, and let go of the oldest beyond what may be mapped at a time."""
        self._mapped[name] = frames
        self._mapped_bytes += frames.nbytes
        limit = min(MAX_MAPPED_BYTES, self.budget_bytes)
        while self._mapped_bytes > limit and len(self._mapped) > 1:
            self._forget(next(iter(self._mapped)))

    def _forget(self, name: str) -> None:
        """Let go of a mapping, so that the space of a deleted file is free."""
        frames = self._mapped.pop(name, None)
        self._mapped_bytes -= frames.nbytes if frames is not None else 0
