"""Drive `opentau loop` as a person and a power failure would: start it, kill it at chosen moments, start it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opentau.events import STAGE_STARTED, EventReader

RUN_TIMEOUT_S = 540.0


def start(runs: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the loop in a process of its own; its output goes to a file beside the runs."""
    runs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OPENTAU_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    with open(runs / "output.txt", "ab") as output:
        command = [sys.executable, "-P", "-m", "opentau.cli.main", "loop", *options]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def finish(runs: Path, options: Sequence[str]) -> None:
    """Run the loop to its end; what it printed is in the error if it fails."""
    with start(runs, options) as process:
        try:
            process.wait(RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, (runs / "output.txt").read_text()[-4000:]


def opentau(runs: Path, *arguments: str) -> dict[str, Any]:
    """Run a command to its end and return its line of JSON; what it printed is in the error if it fails."""
    environment = {**os.environ, "OPENTAU_RUNS": str(runs), "OMP_NUM_THREADS": "1", "OPENTAU_CACHE": str(runs / "cache")}
    command = [sys.executable, "-P", "-m", "opentau.cli.main", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def kill_when(process: subprocess.Popen[bytes], run: Path, moment: Callable[[list[dict[str, Any]]], bool]) -> bool:
    """SIGKILL the process once `moment` holds for its events; return whether that came before its end."""
    reader, seen = EventReader(run), list[dict[str, Any]]()
    if (run / "events").is_dir():
        reader.read_new()  # of earlier processes
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while process.poll() is None:
        assert time.monotonic() < deadline, "the run neither ends nor reaches the moment of the kill"
        seen += reader.read_new() if (run / "events").is_dir() else []
        if moment(seen):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    return False


def at_stage(name: str) -> Callable[[list[dict[str, Any]]], bool]:
    """Return the moment at which a stage begins."""
    return lambda events: any(event["kind"] == STAGE_STARTED and event["stage"] == name for event in events)


def after_seconds(seconds: float) -> Callable[[list[dict[str, Any]]], bool]:
    """Return the moment some time after the process's first event."""
    began: list[float] = []

    def moment(events: list[dict[str, Any]]) -> bool:
        if events and not began:
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] >= seconds

    return moment


def stage_ids(run: Path) -> dict[str, str]:
    """Return the content id of every stage of a finished run."""
    stages = json.loads((run / "state.json").read_text())["stages"]
    return {name: stage["id"] for name, stage in stages.items()}
