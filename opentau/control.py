"""The control channel of a run: commands go in as files of its inbox, acknowledgements come back as events."""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from opentau.errors import OptionError, near_matches
from opentau.events import EventReader

INBOX_FOLDER = "control"

PAUSE, RESUME, STOP = "pause", "resume", "stop"
PROMOTE, ROLLBACK = "promote", "rollback"
VERBS = (PAUSE, RESUME, STOP, PROMOTE, ROLLBACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One request to a run; its id makes it idempotent."""

    verb: str
    args: Mapping[str, Any] = field(default_factory=dict)
    command_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise OptionError(f"unknown command {self.verb!r}.{near_matches(self.verb, VERBS)}")


class RunClient(Protocol):
    """How a screen or a script follows and steers a run, here or on another host."""

    def new_events(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the events not returned before, in time order; with `limit` about so many of the oldest, [] after the last."""
        ...

    def send(self, command: Command) -> None: ...


class LocalRunClient:
    """Follow and steer a run through its directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.reader = EventReader(run_dir)
        self._stream: Iterator[dict[str, Any]] | None = None

    def new_events(self, limit: int | None = None) -> list[dict[str, Any]]:
        if limit is None and self._stream is None:
            return self.reader.read_new()
        self._stream = self._stream or self.reader.stream()
        events = list(itertools.islice(self._stream, limit))
        if limit is None or len(events) < limit:
            self._stream = None
        return events

    def send(self, command: Command) -> None:
        inbox = self.run_dir / INBOX_FOLDER
        inbox.mkdir(exist_ok=True)
        partial = inbox / f"{command.command_id}.partial"
        partial.write_text(json.dumps({"verb": command.verb, "args": dict(command.args), "command_id": command.command_id}))
        os.replace(partial, partial.with_suffix(".json"))


def take_commands(run_dir: Path) -> list[Command]:
    """Return and remove the commands waiting in a run's inbox, oldest first."""
    waiting = sorted((run_dir / INBOX_FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    commands = []
    for path in waiting:
        commands.append(Command(**json.loads(path.read_text())))
        path.unlink()
    return commands
