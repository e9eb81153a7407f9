"""Stations as processes, here or wherever a place puts them: started, watched, replaced, and all gone at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from robot_bridge.config import StationConfig
from robot_bridge.interpreters import environment_of, module_command

SINGLE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")}
"""Numbers must not depend on how many cores a machine has, and stations share them."""

GRACE_S = 0.5
"""How long dismissed stations may take to leave; they hold nothing that a kill could lose."""
NUM_LAST_LINES = 12


class StationProcess(Protocol):
    """A station that was started somewhere."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Return its exit code, negative for the signal that ended it, or None while it runs."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Wait for its end, at most so long."""
        ...

    def kill(self) -> None:
        """End it and return when it is gone; it may be gone already."""
        ...


class Place(Protocol):
    """Where stations run."""

    def launch(self, config: StationConfig, *, log_path: Path) -> StationProcess:
        """Start a station; what it says is at `log_path` of this machine by the time that it has ended."""
        ...

    def close(self) -> None:
        """Let go of the place; no station runs any more."""
        ...


@dataclass(slots=True)
class _Slot:
    number: int
    num_starts: int = 0
    num_failed_starts: int = 0
    station_id: str = ""
    process: StationProcess | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A station process that is no more."""

    slot: int
    station_id: str
    exit_code: int
    """Negative: the signal that ended it."""
    last_lines: str
    """The end of what it said."""
    num_failed_starts: int
    """Processes of this slot in a row that ended without being welcomed."""


class LocalProcess:
    """A station as a process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class LocalPlace:
    """This machine; stations die with the thread that started them (Linux), so launch and use them from one thread."""

    def launch(self, config: StationConfig, *, log_path: Path) -> LocalProcess:
        config_path = log_path.with_suffix(".yaml")
        dataclasses.replace(config, parent_pid=os.getpid()).save(config_path)
        with open(log_path, "wb") as log:
            return LocalProcess(
                subprocess.Popen(
                    module_command(config.interpreter, "robot_bridge.station", [str(config_path)]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment_of(config.interpreter) | SINGLE_THREAD,
                )
            )

    def close(self) -> None:
        pass


class Fleet:
    """A fixed number of stations at a place; each keeps a log of what it says."""

    def __init__(self, template: StationConfig, *, place: Place, log_dir: Path) -> None:
        """`template` is every station's configuration but for its id."""
        self._template = template
        self._place = place
        self._log_dir = log_dir
        self._slots: list[_Slot] = []
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, num_stations: int) -> list[str]:
        """Start stations until there are this many; return the ids of the new ones."""
        added = [_Slot(number) for number in range(len(self._slots), num_stations)]
        self._slots += added
        return [self._launch(slot) for slot in added]

    def departures(self) -> Iterator[Departure]:
        """Yield the stations whose process has ended and was not replaced yet."""
        for slot in self._slots:
            exit_code = None if slot.process is None else slot.process.poll()
            if exit_code is None:
                continue
            slot.num_failed_starts += 1
            departure = Departure(
                slot=slot.number,
                station_id=slot.station_id,
                exit_code=exit_code,
                last_lines=self.last_lines(slot.station_id),
                num_failed_starts=slot.num_failed_starts,
            )
            slot.process = None
            yield departure

    def replace(self, slot: int) -> str:
        """Start a new station where one departed and return its id."""
        return self._launch(self._slots[slot])

    def note_welcome(self, station_id: str) -> None:
        """Remember that a station came as far as being welcomed."""
        for slot in self._slots:
            if slot.station_id == station_id:
                slot.num_failed_starts = -1  # its own end will count one

    def kill(self, station_id: str) -> bool:
        """End a station that does not answer; it then shows up among the departures. Return False for one that is not ours."""
        for slot in self._slots:
            if slot.station_id == station_id and slot.process is not None:
                slot.process.kill()
                return True
        return False

    def pids(self) -> dict[str, int]:
        """Return the process id of every running station."""
        return {slot.station_id: slot.process.pid for slot in self._slots if slot.process is not None}

    def last_lines(self, station_id: str) -> str:
        """Return the end of a station's log."""
        path = self._log_path(station_id)
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        return "\n".join(lines[-NUM_LAST_LINES:])

    def stop(self) -> None:
        """Wait shortly for stations that were dismissed, then end the rest; none is left."""
        running = [slot.process for slot in self._slots if slot.process is not None]
        deadline = time.monotonic() + GRACE_S
        try:
            for process in running:
                process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in running:
                process.kill()
            self._slots.clear()
            self._place.close()

    def _launch(self, slot: _Slot) -> str:
        slot.num_starts += 1
        slot.station_id = f"station-{slot.number}-{slot.num_starts}"
        config = dataclasses.replace(self._template, station_id=slot.station_id)
        slot.process = self._place.launch(config, log_path=self._log_path(slot.station_id))
        return slot.station_id

    def _log_path(self, station_id: str) -> Path:
        return self._log_dir / f"{station_id}.log"
