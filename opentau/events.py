"""The event log: one append-only JSONL file per process under a run, and the one reader that everything else uses."""

from __future__ import annotations

import heapq
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

EVENTS_FOLDER = "events"
BLOCK_BYTES = 1 << 20
_decode = msgspec.json.Decoder().decode

# Event kinds. Fields beyond `t`, `process` and `kind` are listed beside each; a `?` marks those that may be left out.
# Stage names are unique in a run, "<work>-<iteration>" such as "collect-1"; stages outside the cycle have no number and
# iteration null. Seconds of a reused stage are those of the work itself, from its manifest.
RUN_STARTED = "run_started"  # run_id, command, plan: [stage names], resumed: bool, expected_s?: {stage: seconds}
RUN_FINISHED = "run_finished"  # seconds, cpu_seconds (of all its processes)
RUN_FAILED = "run_failed"  # error, cpu_seconds
RUN_STOPPED = "run_stopped"  # text, cpu_seconds; it resumes with the same command
STAGE_STARTED = "stage_started"  # stage, iteration
STAGE_PROGRESS = "stage_progress"  # stage, iteration, done, total, unit, machine?: {"machine/cpu": cores, …} of trainings
STAGE_FINISHED = "stage_finished"  # stage, iteration, seconds, cpu_seconds?, is_reused, summary: {name: number or text}
TRAIN_METRICS = "train_metrics"  # stage, update, metrics: {"train/loss": x, …}
# num_fallbacks counts the chunks of an episode that stood in for action tokens which spelled none, num_refused_chunks those
# that came too late or answered something else.
EPISODE_FINISHED = "episode_finished"  # stage, episode_id, outcome, num_steps, num_intervention_steps, station, task_id?,
# num_clipped_actions?, num_fallbacks?, num_refused_chunks?, playback?: fields of
# robot_bridge.playing.report.PlaybackReport (seams, delay, holds, jitter), if told
EVALUATED = "evaluated"  # stage, iteration, role, policy, episodes, successes, interval: [low, high], eval_spec, simulated_s?
VERDICT = (
    "verdict"  # iteration, verdict, pairs, wins, losses, p_value, text, promoted; paired=False where no placement came back
)
# How the frames of an iteration were labelled, and how well the critic's values meet the returns (`opentau.labelfacts`).
LABELLED = "labelled"  # stage, iteration, edges, counts: {source: [frames per bin]}, thresholds: {task: advantage},
# positive: {source: share}, calibration: [[predicted, realised, frames]]
STATION = "station"  # station, state: started|connected|lost|replaced|stopped, text
# How a station's link does: medians over its newest answers, told every few seconds and when a robot holds otherwise.
LINK = "link"  # station, hold ('' for none), round_trip_ms?, round_trip_p95_ms?, answer_ms?, obs_age_ms?
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
    offsets: dict[str, int] = field(default_factory=dict)
    """File name to the bytes of it that were read; may be given to go on from there."""
    num_damaged: int = 0
    """Lines so far that are no events: torn by a kill, or damaged."""

    def read_new(self) -> list[dict[str, Any]]:
        """Return the events not returned before, in time order."""
        return sorted(self.stream(), key=_time)

    def stream(self) -> Iterator[dict[str, Any]]:
        """Yield the same one by one, with one block of every file in memory; to be read to its end."""
        paths = sorted((self.run_dir / EVENTS_FOLDER).glob("*.jsonl"))
        return heapq.merge(*map(self._events_of, paths), key=_time)

    def _events_of(self, path: Path) -> Iterator[dict[str, Any]]:
        offset = self.offsets.get(path.name, 0)
        with open(path, "rb") as file:
            file.seek(offset)
            rest = b""
            while block := file.read(BLOCK_BYTES):
                lines, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    offset += len(lines) + 1
                    self.offsets[path.name] = offset
                    yield from self._parsed(lines)

    def _parsed(self, lines: bytes) -> list[dict[str, Any]]:
        events = []
        for line in lines.split(b"\n"):
            event = parse_event(line)
            if event is not None:
                events.append(event)
            else:
                self.num_damaged += bool(line.strip())
        return sorted(events, key=_time)


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line, or None for one torn by a kill (the next process appends after it)."""
    try:
        event = _decode(line)
    except msgspec.MsgspecError:
        try:
            event = json.loads(line)  # Python writes NaN and Infinity, which are no JSON
        except ValueError:
            return None
    is_event = isinstance(event, dict) and isinstance(event.get("t"), float | int) and isinstance(event.get("kind"), str)
    return event if is_event else None


def _time(event: dict[str, Any]) -> float:
    return float(event["t"])
