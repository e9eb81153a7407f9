"""How the screens bear long logs and busy runs: time to the first screen, latency of keys, memory, processor time.

    python -P -m benchmarks.tui                         all three measurements, about three minutes
    python -P -m benchmarks.tui --json --require        one line, and exit code 1 where a limit is not met

A log of a million events of a finished run is opened (a snapshot lies beside it, as the loop leaves one): the time from the
start of the process to the first complete screen. A run that writes 10,000 events a second is followed: keys are pressed,
and the time is taken until the screen shows what they do. A quiet run is watched: the processor time that this takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opentau import events
from opentau.control import LocalRunClient
from opentau.runsnapshot import RunFollower

FIRST_SCREEN_S, LATENCY_S, MEMORY_MB, WATCHING_SHARE = 2.0, 0.2, 400.0, 0.10
MILLION = 1_000_000
PER_S = 10_000
START_UP_S = 60.0
"""For which the writer writes longer than it is measured."""
START_T = 1_790_000_000.0
SIZE = (120, 40)


def invented_events(count: int) -> Iterator[dict[str, Any]]:
    """Yield the events of a run that plays and trains in turn, `count` of them and its end."""
    plan = [f"{work}-{i}" for i in range(1, 21) for work in ("collect", "update")]
    started = {"run_id": "long", "command": "opentau loop", "plan": plan, "resumed": False}
    yield {"t": START_T, "process": "main", "kind": events.RUN_STARTED, **started}
    each = count // len(plan)
    for number, stage in enumerate(plan):
        t, iteration = START_T + 1000.0 * number, 1 + number // 2
        common = {"process": "main", "stage": stage}
        yield {"t": t, "kind": events.STAGE_STARTED, **common, "iteration": iteration}
        for i in range(each // 2):
            now = t + 1000.0 * i / each
            if stage.startswith("update"):
                yield {"t": now, "kind": events.TRAIN_METRICS, **common, "update": i, "metrics": {"train/loss": 1 / (1 + i)}}
            else:
                episode = {"episode_id": f"{stage}/{i:06d}", "outcome": "success" if i % 3 else "timeout", "num_steps": 100}
                where = {"num_intervention_steps": 0, "station": f"station-{i % 8}", "task_id": f"task/{i % 4}"}
                yield {"t": now, "kind": events.EPISODE_FINISHED, **common, **episode, **where}
            progress = {"iteration": iteration, "done": i + 1, "total": each // 2, "unit": "updates"}
            yield {"t": now, "kind": events.STAGE_PROGRESS, **common, **progress}
        finished = {"iteration": iteration, "seconds": 900.0, "is_reused": False, "summary": {}}
        yield {"t": t + 999.0, "kind": events.STAGE_FINISHED, **common, **finished}
    end = START_T + 1000.0 * len(plan)
    yield {"t": end, "process": "main", "kind": events.RUN_FINISHED, "seconds": end - START_T, "cpu_seconds": 1.0}


def write_log(run_dir: Path, count: int) -> int:
    """Write the events of a run and return how many bytes they take."""
    folder = run_dir / events.EVENTS_FOLDER
    folder.mkdir(parents=True)
    with open(folder / "main-1.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in invented_events(count))
        return file.tell()


def measure_opening(run_dir: Path) -> dict[str, float]:
    """Fold a log once, as the loop does while it runs, then open it in a fresh process; return seconds and megabytes."""
    started = time.perf_counter()
    RunFollower(LocalRunClient(run_dir)).catch_up()
    folding_s = time.perf_counter() - started
    opened = _in_process("open", str(run_dir))
    return {"folding_s": folding_s, **opened}


def _in_process(what: str, *words: str) -> dict[str, float]:
    command = [sys.executable, "-P", "-m", "benchmarks.tui", "--part", what, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def open_part(run_dir: Path) -> dict[str, float]:
    """Open the screens on a finished run and return when they were complete, since the process began."""
    from tests.tui.screen_driver import Driver  # (the driver of the tests; only measurements need it)
    from tui.app import LoopApp

    async def scene() -> float:
        app = LoopApp(LocalRunClient(run_dir), "long")
        async with app.run_test(size=SIZE) as pilot:
            user = Driver(app, pilot)
            while "finished · iteration 20 of 20" not in "\n".join(user.lines()):
                await asyncio.sleep(0.01)
            return time.time() - _process_start()

    first_screen_s = asyncio.run(scene())
    return {"first_screen_s": first_screen_s, "cpu_s": time.process_time(), "memory_mb": _memory_mb()}


def follow_part(seconds: float) -> dict[str, float]:
    """Follow a run that writes as fast as is asked for and press keys; return latencies, and memory early and late."""
    from tests.tui.screen_driver import Driver  # (the driver of the tests; only measurements need it)
    from tui.app import LoopApp

    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        command = [sys.executable, "-P", "-m", "benchmarks.tui", "--part", "write", folder, f"{seconds + START_UP_S:g}"]

        async def scene() -> dict[str, float]:
            app = LoopApp(LocalRunClient(run_dir), "busy")
            latencies, cpu = list[float](), list[float]()
            async with app.run_test(size=SIZE) as pilot:
                user = Driver(app, pilot)
                started, early_mb, number = time.monotonic(), 0.0, 0
                while "busy" not in user.lines(1)[0] and time.monotonic() - started < 60:
                    await asyncio.sleep(0.05)
                begun, num_before = time.monotonic(), _num_lines(run_dir)
                while time.monotonic() - begun < seconds:
                    number, wanted = number + 1, ("2 Success]", "9 Log]", "4 Stations]")[number % 3]
                    pressed, used = time.perf_counter(), time.process_time()
                    app.simulate_key(wanted[0])
                    while wanted not in user.lines(4)[3]:
                        await asyncio.sleep(0.02)
                    latencies.append(time.perf_counter() - pressed)
                    cpu.append(time.process_time() - used)
                    if not early_mb and time.monotonic() - begun > seconds / 3:
                        early_mb = _memory_mb(is_now=True)
                    await asyncio.sleep(0.2)
                rate = (_num_lines(run_dir) - num_before) / (time.monotonic() - begun)
            latencies.sort()
            return {
                "latency_p50_s": latencies[len(latencies) // 2],
                "latency_p95_s": latencies[int(0.95 * len(latencies))],
                "latency_max_s": latencies[-1],
                "latency_cpu_p50_s": sorted(cpu)[len(cpu) // 2],
                "num_keys": float(len(latencies)),
                "memory_early_mb": early_mb,
                "memory_mb": _memory_mb(is_now=True),
                "cpu_share": time.process_time() / (time.time() - _process_start()),
                "events_per_s": rate,
            }

        with subprocess.Popen(command) as writer:
            try:
                return asyncio.run(scene())
            finally:
                writer.terminate()


def watch_part(run_dir: Path, seconds: float) -> dict[str, float]:
    """Watch a run that says something twice a second; return the share of one core that the screens take."""
    from tests.tui.screen_driver import Driver  # (the driver of the tests; only measurements need it)
    from tui.app import LoopApp

    async def scene() -> float:
        app = LoopApp(LocalRunClient(run_dir), "quiet", now=time.time)
        async with app.run_test(size=SIZE) as pilot:
            user = Driver(app, pilot)
            log = events.EventLog(run_dir, "main")
            log.emit(events.RUN_STARTED, run_id="quiet", command="opentau loop", plan=["update-1"], resumed=False)
            log.emit(events.STAGE_STARTED, stage="update-1", iteration=1)
            while "quiet" not in user.lines(1)[0]:
                await asyncio.sleep(0.05)
            used, started = time.process_time(), time.monotonic()
            for i in range(int(2 * seconds)):
                log.emit(events.TRAIN_METRICS, stage="update-1", update=i, metrics={"train/loss": 1 / (i + 1)})
                log.emit(events.STAGE_PROGRESS, stage="update-1", iteration=1, done=i, total=100_000, unit="updates")
                await asyncio.sleep(0.5)
            return (time.process_time() - used) / (time.monotonic() - started)

    return {"cpu_share": asyncio.run(scene())}


def _write_steadily(run_dir: Path, seconds: float) -> None:
    """Append `PER_S` events a second in tenths of a second."""
    folder = run_dir / events.EVENTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    source = invented_events(int(PER_S * seconds) + PER_S)
    started, written = time.monotonic(), 0
    with open(folder / "main-2.jsonl", "a", encoding="utf-8") as file:
        first = next(source) | {"run_id": "busy"}
        file.write(json.dumps(first) + "\n")
        while (passed := time.monotonic() - started) < seconds:
            for _ in range(max(0, int(passed * PER_S) - written)):
                file.write(json.dumps(next(source)) + "\n")
                written += 1
            file.flush()
            time.sleep(0.1)


def _num_lines(run_dir: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (run_dir / events.EVENTS_FOLDER).glob("*.jsonl"))


def _memory_mb(*, is_now: bool = False) -> float:
    if is_now:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _process_start() -> float:
    """Return when this process began, seconds since the epoch."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    boot = float(next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")).split()[1])
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def run_all(*, seconds: float, count: int) -> dict[str, Any]:
    """Return all measurements."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "long"
        num_bytes = write_log(run_dir, count)
        opening = measure_opening(run_dir)
    following = _in_process("follow", f"{seconds:g}")
    with tempfile.TemporaryDirectory() as folder:
        watching = _in_process("watch", folder, f"{min(20.0, seconds):g}")
    return {"events": count, "log_mb": num_bytes / 1e6, "opening": opening, "following": following, "watching": watching}


def failures(facts: dict[str, Any]) -> list[str]:
    """Return the limits that are not met, in words."""
    opening, following, watching = facts["opening"], facts["following"], facts["watching"]
    checks = (
        ("first screen of a finished run, s", opening["first_screen_s"], FIRST_SCREEN_S),
        ("95 % of keys, s", following["latency_p95_s"], LATENCY_S),
        ("memory while following, MB", following["memory_mb"], MEMORY_MB),
        ("share of a core while watching", watching["cpu_share"], WATCHING_SHARE),
    )
    return [f"{name}: {value:.3g}, the limit is {limit:g}" for name, value, limit in checks if value > limit]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="one line of JSON")
    arguments.add_argument("--require", action="store_true", help="exit code 1 where a limit is not met")
    arguments.add_argument("--seconds", type=float, default=60.0, help="how long the busy run writes")
    arguments.add_argument("--events", type=int, default=MILLION, help="events of the long log")
    arguments.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.part:
        what, *words = options.part
        if what == "open":
            print(json.dumps(open_part(Path(words[0]))))
        elif what == "follow":
            print(json.dumps(follow_part(float(words[0]))))
        elif what == "write":
            _write_steadily(Path(words[0]), float(words[1]))
        else:
            print(json.dumps(watch_part(Path(words[0]), float(words[1]))))
        return 0
    facts = run_all(seconds=options.seconds, count=options.events)
    print(json.dumps(facts) if options.json else json.dumps(facts, indent=1))
    missed = failures(facts)
    for line in missed:
        print(line, file=sys.stderr)
    return 1 if missed and options.require else 0


if __name__ == "__main__":
    raise SystemExit(main())
