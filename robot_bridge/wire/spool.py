"""Finished episodes on the station's disk until the server has them on its own: written aside, renamed, named by their hash.

A file is the frames of the episode's `Upload` message: magic, number of frames, their lengths, and the frames themselves.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentau.errors import LinkError, StorageError
from robot_bridge.wire.messages import MAX_ARRAYS, Frame, Upload, decode_header

MAGIC = b"OTS1"
SUFFIX, PARTIAL, REFUSED = ".episode", ".partial", ".refused"
MAX_EPISODE_BYTES = 1 << 33
_COUNT, _LENGTH = struct.Struct("<I"), struct.Struct("<Q")
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """One episode that waits to be delivered."""

    episode_id: str
    sha256: str
    num_bytes: int
    path: Path | None
    """None while the disk has no room for it: it is in memory only."""
    data: bytes = b""
    """The file's bytes, where there is no file."""

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Return a piece of the file."""
        if self.path is None:
            return self.data[offset : offset + num_bytes]
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(num_bytes)


class Spool:
    """Keep episodes in the order in which they were finished, across restarts of the station; one station a folder."""

    def __init__(self, folder: Path, *, max_bytes: int | None = None) -> None:
        """Take up what an earlier program left. `max_bytes`: most that lies here; None: what the disk has room for.

        A half-written file is removed, and one that is damaged set aside under another name.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        with _storage_errors(folder, 0):
            folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(f"*{PARTIAL}"):
            partial.unlink()
        found = (_taken_up(path) for path in sorted(folder.glob(f"*{SUFFIX}")))
        self._waiting = [spooled for spooled in found if spooled is not None]
        numbers = [int(path.name.partition("-")[0]) for path in folder.iterdir() if path.name.partition("-")[0].isdigit()]
        self._next_number = max(numbers, default=-1) + 1

    def waiting(self) -> tuple[Spooled, ...]:
        """Return what is to be delivered, oldest first."""
        return tuple(self._waiting)

    def holds(self, episode_id: str) -> bool:
        return any(spooled.episode_id == episode_id for spooled in self._waiting)

    @property
    def has_unsaved(self) -> bool:
        """Whether something is in memory only."""
        return any(spooled.path is None for spooled in self._waiting)

    def add(self, episode_id: str, frames: Sequence[Frame]) -> None:
        """Keep an episode; raises `StorageError` where the disk does not take it, and then keeps it in memory."""
        parts = [*packed(frames)]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        sha256, num_bytes = digest.hexdigest(), sum(len(part) for part in parts)
        path = self._path(sha256)
        try:
            self._write(path, parts, num_bytes)
        except StorageError:
            held = Spooled(episode_id=episode_id, sha256=sha256, num_bytes=num_bytes, path=None, data=b"".join(parts))
            self._waiting.append(held)
            raise
        self._waiting.append(Spooled(episode_id=episode_id, sha256=sha256, num_bytes=num_bytes, path=path))

    def save_rest(self) -> None:
        """Write what is in memory only; raises `StorageError` while there is no room for it."""
        for index, held in enumerate(self._waiting):
            if held.path is None:
                path = self._path(held.sha256)
                self._write(path, [held.data], held.num_bytes)
                self._waiting[index] = Spooled(
                    episode_id=held.episode_id, sha256=held.sha256, num_bytes=held.num_bytes, path=path
                )

    def remove(self, spooled: Spooled) -> None:
        """Forget an episode that the server has."""
        self._waiting.remove(spooled)
        if spooled.path is not None:
            spooled.path.unlink(missing_ok=True)

    def set_aside(self, spooled: Spooled) -> Path | None:
        """Stop delivering an episode that the server refuses, and keep its file under another name, which is returned."""
        self._waiting.remove(spooled)
        return None if spooled.path is None else spooled.path.rename(spooled.path.with_suffix(REFUSED))

    def _path(self, sha256: str) -> Path:
        path = self._folder / f"{self._next_number:06d}-{sha256}{SUFFIX}"
        self._next_number += 1
        return path

    def _write(self, path: Path, parts: Sequence[Frame], num_bytes: int) -> None:
        used = sum(held.num_bytes for held in self._waiting if held.path is not None)
        if self._max_bytes is not None and used + num_bytes > self._max_bytes:
            raise StorageError(
                f"the spool {self._folder} holds {used} bytes of episodes and has no room for {num_bytes} more: the limit is "
                f"{self._max_bytes} (spool_bytes). The episode is kept in memory; bring the server back, or raise the limit"
            )
        partial = path.with_name(path.name + PARTIAL)
        try:
            with _storage_errors(self._folder, num_bytes):
                with open(partial, "wb") as file:
                    for part in parts:
                        file.write(part)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
        except StorageError:
            partial.unlink(missing_ok=True)
            raise


def packed(frames: Sequence[Frame]) -> Iterator[Frame]:
    """Yield the parts of a file that holds these frames."""
    yield MAGIC + _COUNT.pack(len(frames)) + b"".join(_LENGTH.pack(len(frame)) for frame in frames)
    yield from frames


def unpacked(data: memoryview) -> list[Frame]:
    """Return the frames of a file, as views; raises `LinkError` for anything that is no such file."""
    head = len(MAGIC) + _COUNT.size
    if data[: len(MAGIC)] != MAGIC or len(data) < head:
        raise LinkError("a file that is no spooled episode was refused: it does not start with OTS1")
    (count,) = _COUNT.unpack(data[len(MAGIC) : head])
    start = head + count * _LENGTH.size
    if count > MAX_ARRAYS + 2 or start > len(data):
        raise LinkError(f"a spooled episode of {count} frames was refused; the limit is {MAX_ARRAYS + 2}")
    lengths = [length for (length,) in _LENGTH.iter_unpack(data[head:start])]
    if start + sum(lengths) != len(data):
        raise LinkError(f"a spooled episode of {len(data)} bytes was refused; its frames take {start + sum(lengths)}")
    frames: list[Frame] = []
    for length in lengths:
        frames.append(data[start : start + length])
        start += length
    return frames


def _taken_up(path: Path) -> Spooled | None:
    """Return the entry of a file; one that is not what its name says is set aside."""
    digest, head = hashlib.sha256(), b""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            head = head or block
            digest.update(block)
    sha256 = path.stem.partition("-")[2]
    try:
        if digest.hexdigest() != sha256:
            raise LinkError("its content is not that of its name")
        message = decode_header(_header(memoryview(head)))
        if not isinstance(message, Upload):
            raise LinkError(f"it holds a {type(message).__name__}")
    except LinkError:
        path.rename(path.with_suffix(REFUSED))
        return None
    return Spooled(episode_id=message.result.plan.episode_id, sha256=sha256, num_bytes=path.stat().st_size, path=path)


def _header(head: memoryview) -> memoryview:
    """Return the message header (frame 1), which lies in the file's first block."""
    start = len(MAGIC) + _COUNT.size
    if len(head) < start + 2 * _LENGTH.size:
        raise LinkError("it is too short")
    (count,) = _COUNT.unpack(head[len(MAGIC) : start])
    version, header = (_LENGTH.unpack(head[start + i * _LENGTH.size : start + (i + 1) * _LENGTH.size])[0] for i in (0, 1))
    start += count * _LENGTH.size + version
    return head[start : start + header]


@contextmanager
def _storage_errors(folder: Path, num_bytes: int) -> Iterator[None]:
    """Turn a full disk into a `StorageError` that names the folder and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageError(
            f"the spool {folder} cannot take {num_bytes} bytes: {os.strerror(error.errno)}. The episode is kept in memory "
            "as long as the station runs; free some space, or bring the server back"
        ) from error
