"""The event log: one append-only JSONL file per process under a run, and the one reader that everything else uses."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVENTS_FOLDER = "events"

# Event kinds. Fields beyond `t`, `process` and `kind` are listed beside each; a `?` marks those that may be left out.
# Stage names are unique in a run, "<work>-<iteration>" such as "collect-1"; stages outside the cycle have no number and
# iteration null. Seconds of a reused stage are those of the work itself, from its manifest.
RUN_STARTED = "run_started"  # run_id, command, plan: [stage names], resumed: bool, expected_s?: {stage: seconds}
RUN_FINISHED = "run_finished"  # seconds, cpu_seconds (of all its processes)
RUN_FAILED = "run_failed"  # error, cpu_seconds
RUN_STOPPED = "run_stopped"  # text, cpu_seconds; it resumes with the same command
STAGE_STARTED = "stage_started"  # stage, iteration
STAGE_PROGRESS = "stage_progress"  # stage, iteration, done, total, unit
STAGE_FINISHED = "stage_finished"  # stage, iteration, seconds, cpu_seconds?, is_reused, summary: {name: number or text}
TRAIN_METRICS = "train_metrics"  # stage, update, metrics: {"train/loss": x, …}
# num_fallbacks counts the chunks of an episode that stood in for action tokens which spelled none, num_refused_chunks those
# that came too late or answered something else.
EPISODE_FINISHED = "episode_finished"  # stage, episode_id, outcome, num_steps, num_intervention_steps, station, num_fallbacks?,
# num_refused_chunks?, playback?: fields of robot_bridge.playing.report.PlaybackReport (seams, delay, holds, jitter), if told
EVALUATED = "evaluated"  # stage, iteration, role, policy, episodes, successes, interval: [low, high], eval_spec, simulated_s?
VERDICT = (
    "verdict"  # iteration, verdict, pairs, wins, losses, p_value, text, promoted; paired=False where no placement came back
)
STATION = "station"  # station, state: started|connected|lost|replaced|stopped, text
# A jog is told once, at its end. A done `set` names the `iteration` it holds from, a done `label` its `episode_id`.
# Stations add the `tick` and the `episode_id` at which they obeyed.
COMMAND = "command"  # verb, args, state: received|done|refused|repeated, text, command_id?, operator?
LEASE = "lease"  # operator ('' for nobody), text: why it changed
TAKEOVER = "takeover"  # station, episode_id, operator, state: began|ended, tick, text
# Refusals are bounded for each peer; num_left_out counts those that were not written since the one before.
AUDIT = "audit"  # who, role, what, why, state: accepted|refused, command_id?, num_left_out?
NOTE = "note"  # level: info|warning|error, text; percent where it tells how far something is

# Roles of an evaluated policy. An iteration's own result is its candidate (iteration 0: the policy after SFT); `FINAL` is
# a score on the official initial states.
CANDIDATE, INCUMBENT, FINAL = "candidate", "incumbent", "final"


class EventLog:
    """Append events of this process; safe to share between threads. Lines are flushed, so that a kill loses none."""

    def __init__(self, run_dir: Path, process: str, *, now: Callable[[], float] = time.time) -> None:
        folder = run_dir / EVENTS_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.process = process
        self._now = now
        self._lock = threading.Lock()
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self._file = open(folder / f"{process}-{os.getpid()}.jsonl", "a", encoding="utf-8")  # noqa: SIM115

    def emit(self, kind: str, **fields: Any) -> None:
        """Write one event; fields are plain data."""
        event = {"t": self._now(), "process": self.process, "kind": kind, **fields}
        line = json.dumps(event) + "\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
        for listener in self._listeners:
            listener(event)

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call `listener` with every event of this process from now on (the progress bars of a command)."""
        self._listeners.append(listener)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class EventReader:
    """Read a run's events, then only what was appended since; a torn last line is left for the next call."""

    run_dir: Path
    _offsets: dict[Path, int] = field(default_factory=dict)

    def read_new(self) -> list[dict[str, Any]]:
        """Return the events not returned before, in time order."""
        events: list[dict[str, Any]] = []
        for path in sorted((self.run_dir / EVENTS_FOLDER).glob("*.jsonl")):
            events.extend(self._read_file(path))
        events.sort(key=lambda event: event["t"])
        return events

    def _read_file(self, path: Path) -> Iterator[dict[str, Any]]:
        with open(path, "rb") as file:
            file.seek(self._offsets.get(path, 0))
            block = file.read()
        end = block.rfind(b"\n") + 1
        self._offsets[path] = self._offsets.get(path, 0) + end
        for line in block[:end].splitlines():
            event = _parse(line)
            if event is not None:
                yield event


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the event, or None for a line torn by a kill (the next process appends after it)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "t" in event and "kind" in event else None
