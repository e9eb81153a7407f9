"""The folded state of a long run, kept beside its events so that reading begins there instead of at the first event."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from opentau.control import LocalRunClient, RunClient
from opentau.events import EVENTS_FOLDER
from opentau.runfold import RunFold
from opentau.runstate import RunSummary
from opentau.runtally import FoldState

SNAPSHOT_FILE = "folded.msgpack"
BYTES_BETWEEN = 4 << 20
"""A snapshot is written once so many bytes of events, some twenty thousand, came after the one before."""
FOLD_VERSION = 1
"""To be raised when folding the same events gives another state of the same types."""
EVENTS_AT_ONCE = 2_000


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    format_id: str
    offsets: dict[str, int]
    """Event file to the bytes of it that are folded."""
    num_damaged: int
    fold: bytes


class RunFollower:
    """Fold what a client tells, a little at a time; begins at a snapshot where there is one and leaves others behind."""

    def __init__(self, client: RunClient) -> None:
        self._client = client
        self._local = client if isinstance(client, LocalRunClient) else None
        self._fold = RunFold()
        self.is_behind = True
        """Whether there was more to read when it was last looked."""
        self._snapshot_bytes = 0
        self.has_begun = False
        """Whether it began at a snapshot, so that there is something to show before any event was read."""
        if self._local is not None and (snapshot := read_snapshot(self._local.run_dir)) is not None:
            self._fold = RunFold.decoded(snapshot.fold)
            self._local.reader.offsets.update(snapshot.offsets)
            self._local.reader.num_damaged = snapshot.num_damaged
            self._snapshot_bytes = sum(snapshot.offsets.values())
            self.has_begun = True

    def advance(self, limit: int = EVENTS_AT_ONCE) -> int:
        """Take about `limit` further events; return how many came."""
        new = self._client.new_events(limit)
        for event in new:
            self._fold.update(event)
        self.is_behind = len(new) >= limit
        if not self.is_behind:
            self._keep()
        return len(new)

    def catch_up(self) -> RunSummary:
        """Take everything there is."""
        while self.advance():
            pass
        return self.summary()

    def summary(self) -> RunSummary:
        return self._fold.summary(num_torn=self._local.reader.num_damaged if self._local is not None else 0)

    @property
    def share_read(self) -> float:
        """Return how much of what lies there is read, in [0, 1]; 1 where it is not known."""
        if self._local is None:
            return 1.0
        total = sum(path.stat().st_size for path in (self._local.run_dir / EVENTS_FOLDER).glob("*.jsonl"))
        return sum(self._local.reader.offsets.values()) / total if total else 1.0

    def _keep(self) -> None:
        """Write a snapshot if it is worth it; whoever may only read leaves none."""
        if self._local is None:
            return
        num_bytes = sum(self._local.reader.offsets.values())
        if num_bytes - self._snapshot_bytes < BYTES_BETWEEN:
            return
        self._snapshot_bytes = num_bytes
        snapshot = Snapshot(
            format_id=format_id(),
            offsets=dict(self._local.reader.offsets),
            num_damaged=self._local.reader.num_damaged,
            fold=self._fold.encoded(),
        )
        path = self._local.run_dir / EVENTS_FOLDER / SNAPSHOT_FILE
        partial = path.with_name(f"{SNAPSHOT_FILE}.{os.getpid()}.partial")
        try:
            partial.write_bytes(msgspec.msgpack.encode(snapshot))
            os.replace(partial, path)
        except OSError:
            partial.unlink(missing_ok=True)


def fold_run(run_dir: Path) -> RunSummary:
    """Return the summary of all events of a run."""
    return RunFollower(LocalRunClient(run_dir)).catch_up()


def keep_folded(run_dir: Path) -> None:
    """Write a snapshot if much was written since the last one, so that readers of a long run open it at once."""
    if is_snapshot_due(run_dir):
        fold_run(run_dir)


def is_snapshot_due(run_dir: Path) -> bool:
    """Return whether much was written since the snapshot; looks at sizes only."""
    folder = run_dir / EVENTS_FOLDER
    num_bytes = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
    if num_bytes < BYTES_BETWEEN:
        return False
    snapshot = read_snapshot(run_dir)
    return snapshot is None or num_bytes - sum(snapshot.offsets.values()) >= BYTES_BETWEEN


def read_snapshot(run_dir: Path) -> Snapshot | None:
    """Return the snapshot of a run; None where there is none, or none of this program and of this log."""
    folder = run_dir / EVENTS_FOLDER
    try:
        snapshot = msgspec.msgpack.decode((folder / SNAPSHOT_FILE).read_bytes(), type=Snapshot)
        is_fitting = all((folder / name).stat().st_size >= offset for name, offset in snapshot.offsets.items())
    except (OSError, msgspec.DecodeError):
        return None
    return snapshot if is_fitting and snapshot.format_id == format_id() else None


def format_id() -> str:
    """Return a name for what a snapshot's fold holds; another one when any of its types changed."""
    return hashlib.sha256(f"{FOLD_VERSION} {msgspec.json.schema(FoldState)}".encode()).hexdigest()[:16]
