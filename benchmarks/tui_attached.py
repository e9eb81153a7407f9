"""What watching a run costs: the loop's processor seconds with and without the screens attached, and the screens' own share.

    python -P -m benchmarks.tui_attached                          five pairs of tiny tabletop runs, about six CPU-minutes
    python -P -m benchmarks.tui_attached --experiment tabletop    the same of larger ones, about a hundred CPU-minutes
    python -P -m benchmarks.tui_attached --json --require         one line, and exit code 1 where a limit is not met

Every pair is the same run twice, in fresh directories, alternately first without and first with `opentau tui` in a terminal of
120×40 characters. The loop's seconds are what it says itself at its end, of all its processes. Only a quiet machine tells two
per cent apart.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.events import EVENTS_FOLDER, RUN_FINISHED, EventReader

LOOP_SHARE, SCREEN_SHARE = 0.02, 0.10
COLUMNS, ROWS = 120, 40
RUN = "watched"
LONGEST_S = 3600.0
OPENTAU = (sys.executable, "-P", "-m", "opentau.cli.main")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One run."""

    loop_cpu_s: float
    """User and system time of the loop and its processes."""
    screen_share: float | None
    """Of one core, while it ran; None without screens."""


@dataclass(slots=True)
class Screens:
    """The screens in a terminal of their own."""

    process: subprocess.Popen[bytes]
    share: float = 0.0
    """Of one core, once they were closed."""


@contextmanager
def in_a_terminal(environment: dict[str, str]) -> Iterator[Screens]:
    """Attach the screens to the run, drawn into a terminal that somebody reads; they are closed at the end."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    began = time.monotonic()
    process = subprocess.Popen(
        [*OPENTAU, "tui", RUN], stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True
    )
    os.close(inside)

    def read() -> None:
        try:
            while os.read(outside, 1 << 16):
                pass
        except OSError:  # its other end is closed
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    screens = Screens(process=process)
    try:
        yield screens
        if process.poll() is not None:
            raise SystemExit(f"the screens ended by themselves, with exit code {process.returncode}")
    finally:
        process.kill()
        _, _, used = os.wait4(process.pid, 0)
        screens.share = (used.ru_utime + used.ru_stime) / (time.monotonic() - began)
        process.returncode = 0
        reader.join(5.0)
        os.close(outside)


def play(experiment: str, *, is_watched: bool) -> Watched:
    """Play a run from its beginning to its end."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OPENTAU_RUNS": folder, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
        output = open(Path(folder) / "output.txt", "wb")  # noqa: SIM115
        command = [*OPENTAU, "loop", f"experiment={experiment}", f"run_id={RUN}"]
        with output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as loop:
            run_dir = Path(folder) / RUN
            while not (run_dir / EVENTS_FOLDER).is_dir() and loop.poll() is None:
                time.sleep(0.05)
            if not is_watched:
                loop.wait(LONGEST_S)
                return Watched(loop_cpu_s=_cpu_seconds(run_dir), screen_share=None)
            with in_a_terminal(environment) as screens:
                loop.wait(LONGEST_S)
            return Watched(loop_cpu_s=_cpu_seconds(run_dir), screen_share=screens.share)


def _cpu_seconds(run_dir: Path) -> float:
    finished = [event for event in EventReader(run_dir).read_new() if event["kind"] == RUN_FINISHED]
    if not finished:
        raise SystemExit(f"the run did not finish; {(run_dir.parent / 'output.txt').read_text()[-2000:]}")
    return float(finished[-1]["cpu_seconds"])


def measure(experiment: str, num_pairs: int) -> dict[str, Any]:
    """Return how much more the loop takes with the screens attached, the median of the pairs, and the screens' own share."""
    pairs: list[tuple[Watched, Watched]] = []
    for number in range(num_pairs):
        order = (False, True) if number % 2 == 0 else (True, False)
        played = {is_watched: play(experiment, is_watched=is_watched) for is_watched in order}
        pairs.append((played[False], played[True]))
        print(f"pair {number + 1}: {played[False].loop_cpu_s:.1f} s alone, {played[True].loop_cpu_s:.1f} s", file=sys.stderr)
    more = [watched.loop_cpu_s / alone.loop_cpu_s - 1 for alone, watched in pairs]
    shares = [watched.screen_share for _, watched in pairs if watched.screen_share is not None]
    return {
        "experiment": experiment,
        "alone_cpu_s": [round(alone.loop_cpu_s, 2) for alone, _ in pairs],
        "watched_cpu_s": [round(watched.loop_cpu_s, 2) for _, watched in pairs],
        "more": statistics.median(more),
        "screen_share": statistics.median(shares),
    }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--experiment", default="tiny", help="one on the tabletop: tiny, or tabletop")
    arguments.add_argument("--pairs", type=int, default=5)
    arguments.add_argument("--json", action="store_true", help="one line of JSON")
    arguments.add_argument("--require", action="store_true", help="exit code 1 where a limit is not met")
    options = arguments.parse_args()
    facts = measure(options.experiment, options.pairs)
    print(json.dumps(facts) if options.json else json.dumps(facts, indent=1))
    is_met = abs(facts["more"]) <= LOOP_SHARE and facts["screen_share"] <= SCREEN_SHARE
    if not is_met:
        print(f"limits: {LOOP_SHARE:g} of the loop's time either way, {SCREEN_SHARE:g} of a core", file=sys.stderr)
    return 1 if options.require and not is_met else 0


if __name__ == "__main__":
    raise SystemExit(main())
