"""A recorded run played again: its state at any moment, by keyframes and the events after them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from opentau.errors import RunError
from opentau.events import EVENTS_FOLDER, parse_event
from opentau.runfold import RunFold
from opentau.runstate import RunSummary

# Shapes: N events.

KEYFRAMES = 32
LONGEST_GAP_S = 60.0
"""Of played time; what lies between two attempts of a run, or between two events of a long stage, is not waited for."""


class _Stamp(msgspec.Struct):
    t: float


class Replay:
    """Seek in a run's log; holds where every event lies (25 bytes each) and a few folded states, never the events."""

    def __init__(self, run_dir: Path) -> None:
        """Read the times of all events once; raises `RunError` where there are none."""
        self._paths = sorted((run_dir / EVENTS_FOLDER).glob("*.jsonl"))
        times, files, starts, lengths = self._index()
        order = np.argsort(times, kind="stable")
        self._file_N, self._start_N, self._length_N = files[order], starts[order], lengths[order]
        if not len(order):
            raise RunError(f"run {run_dir.name} has no events to replay; `opentau runs list` names runs that do")
        self.times_N = times[order]
        """When each event happened, seconds since the epoch, float64 [N]."""
        gaps = np.minimum(np.diff(self.times_N, prepend=self.times_N[0]), LONGEST_GAP_S)
        self.played_N = np.cumsum(gaps)
        """The same in played seconds, from zero, float64 [N]."""
        self._fold = RunFold()
        self._done = 0
        self._keyframes: dict[int, bytes] = {0: self._fold.encoded()}
        self._spacing = max(1, -(-len(order) // KEYFRAMES))

    @property
    def duration_s(self) -> float:
        """Return how long it plays at its own speed, seconds."""
        return float(self.played_N[-1])

    def seek(self, played_s: float) -> RunSummary:
        """Return the state after `played_s` seconds of the recording, clipped to it."""
        self.fold_to(int(np.searchsorted(self.played_N, played_s + 1e-9, side="right")))
        return self._fold.summary()

    def moment(self, played_s: float) -> float:
        """Return the time of the run, seconds since the epoch, at that place of the recording."""
        return float(np.interp(played_s, self.played_N, self.times_N))

    def fold_to(self, count: int) -> None:
        """Fold the first `count` events, from the nearest state that is known."""
        if count < self._done or count - self._done > 2 * self._spacing:
            nearest = max(known for known in self._keyframes if known <= count)
            if count < self._done or nearest > self._done:
                self._fold, self._done = RunFold.decoded(self._keyframes[nearest]), nearest
        for event in self._events(self._done, count):
            if event is not None:
                self._fold.update(event)
            self._done += 1
            if self._done % self._spacing == 0 and self._done not in self._keyframes:
                self._keyframes[self._done] = self._fold.encoded()

    def _events(self, first: int, last: int) -> Iterator[dict[str, object] | None]:
        opened = [open(path, "rb") for path in self._paths]  # noqa: SIM115  closed below
        try:
            for i in range(first, last):
                file = opened[self._file_N[i]]
                file.seek(int(self._start_N[i]))
                yield parse_event(file.read(int(self._length_N[i])))
        finally:
            for file in opened:
                file.close()

    def _index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return time, file, first byte and length of every line that has a time."""
        decode = msgspec.json.Decoder(_Stamp).decode
        times, files, starts, lengths = list[float](), list[int](), list[int](), list[int]()
        for number, path in enumerate(self._paths):
            at = 0
            with open(path, "rb") as file:
                for line in file:
                    t: float | None
                    try:
                        t = decode(line).t
                    except msgspec.MsgspecError:  # NaN is no JSON, a torn line no event
                        event = parse_event(line)
                        t = float(event["t"]) if event is not None else None
                    if t is not None:
                        times.append(t)
                        files.append(number)
                        starts.append(at)
                        lengths.append(len(line))
                    at += len(line)
        arrays = (np.array(starts, np.int64), np.array(lengths, np.int32))
        return np.array(times, np.float64), np.array(files, np.int16), *arrays
