"""Compare lean LIBERO with stock LIBERO: control steps per second, both rendering every step. Results: libero_parity.py."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from envs.libero.environment import LiberoEnv
from envs.rendering import describe_backend

MIN_SPEEDUP = 10.0
IMAGE_SIZE = 64
NUM_WARM_UP_STEPS = 30
FAST_STEPS_PER_STOCK_STEP = 8
"""So that a round takes both sides about equally long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Control steps per second at 64 px with two cameras and the official physics."""

    stock: list[float]
    """One figure per round."""
    fast: list[float]

    @property
    def speedup(self) -> float:
        return statistics.median(self.fast) / statistics.median(self.stock)


def _walk(seed: int) -> Iterator[np.ndarray]:
    """Yield actions that wander and hold for five control steps."""
    rng = np.random.default_rng(seed)
    while True:
        action = np.concatenate([rng.uniform(-0.7, 0.7, 6), rng.choice([-1.0, 1.0], 1)])
        yield from itertools.repeat(action, 5)


def serve_stock(suite: str, task_id: int) -> None:
    """Run LIBERO's own rendering environment; every number read from stdin is answered by the seconds that many steps took."""
    with contextlib.redirect_stdout(io.StringIO()):
        from libero.libero.envs import OffScreenRenderEnv  # this process alone renders with robosuite

        from envs.libero.stock import open_stock_task

        task = open_stock_task(suite, task_id)
        env = OffScreenRenderEnv(bddl_file_name=str(task.bddl_path), camera_heights=IMAGE_SIZE, camera_widths=IMAGE_SIZE)
        env.seed(0)
        env.reset()
        env.set_init_state(task.initial_states[0])
    actions = _walk(0)
    for line in sys.stdin:
        began = time.perf_counter()
        for action in itertools.islice(actions, int(line)):
            env.step(action)
        print(json.dumps(time.perf_counter() - began), flush=True)


def measure_speed(suite: str, task_id: int, *, num_rounds: int, num_stock_steps: int) -> Speed:
    """Alternate rounds of stock and lean stepping, both rendering every step; stock runs in a process of its own."""
    driver = "egl" if describe_backend().name == "egl" else "osmesa"
    command = [sys.executable, "-P", __file__, "--serve-stock", f"{suite}/{task_id}"]
    environment = os.environ | {"MUJOCO_GL": driver, "PYTHONPATH": os.pathsep.join(sys.path)}
    fast = LiberoEnv(suite=suite, task_id=task_id, image_size=IMAGE_SIZE, max_steps=10**9)
    fast.reset(options={"initial_state": 0})
    actions, speed = _walk(0), Speed(stock=[], fast=[])
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as stock:

        def run_stock(count: int) -> float:
            assert stock.stdin is not None
            assert stock.stdout is not None
            stock.stdin.write(f"{count}\n")
            stock.stdin.flush()
            answer = stock.stdout.readline()
            if not answer:
                raise RuntimeError(f"stock LIBERO cannot render with MUJOCO_GL={driver} here; install libegl1 and libegl-mesa0")
            return count / float(answer)

        def run_fast(count: int) -> float:
            began = time.perf_counter()
            for action in itertools.islice(actions, count):
                fast.step(action)
            return count / (time.perf_counter() - began)

        run_stock(NUM_WARM_UP_STEPS)
        run_fast(NUM_WARM_UP_STEPS)
        for _ in range(num_rounds):
            speed.stock.append(run_stock(num_stock_steps))
            speed.fast.append(run_fast(num_stock_steps * FAST_STEPS_PER_STOCK_STEP))
        assert stock.stdin is not None
        stock.stdin.close()
    fast.close()
    return speed


def _print_table(speed: Speed, missed: list[str]) -> None:
    print(f"control steps per second at {IMAGE_SIZE} px, two cameras, 2 ms physics ({describe_backend().id})")
    for name in ("stock", "fast"):
        rounds = getattr(speed, name)
        print(f"  {name:<6} median {statistics.median(rounds):7.1f}   rounds {' '.join(f'{r:.1f}' for r in rounds)}")
    print(f"  fast is {speed.speedup:.1f} times as fast")
    print(*missed, sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; with --require, exit 1 when lean stepping is slower than promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="libero_object/0", metavar="SUITE/N", help="task that both step")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds")
    parser.add_argument("--stock-steps", type=int, default=20, help="control steps of stock LIBERO per round")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--require", action="store_true", help="fail when the promise is missed")
    parser.add_argument("--serve-stock", metavar="SUITE/TASK", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve_stock:
        suite, task_id = options.serve_stock.split("/")
        serve_stock(suite, int(task_id))
        return 0
    suite, task_id = options.task.split("/")
    speed = measure_speed(suite, int(task_id), num_rounds=options.rounds, num_stock_steps=options.stock_steps)
    missed = []
    if speed.speedup < MIN_SPEEDUP:
        missed.append(f"lean stepping is {speed.speedup:.1f} times as fast as stock, at least {MIN_SPEEDUP:.0f} times wanted")
    if options.json:
        print(json.dumps({"speed": asdict(speed) | {"speedup": speed.speedup}, "missed": missed}, indent=1))
    else:
        _print_table(speed, missed)
    return 1 if options.require and missed else 0


if __name__ == "__main__":
    sys.exit(main())
