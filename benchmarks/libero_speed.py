"""Lean LIBERO against stock LIBERO and against itself: control steps per second, memory, resets, and drawing once a chunk.

Every environment lives in a process of its own (`--serve`); rounds alternate, medians are told. What both compute, and whether
it is the same, is libero_parity.py's.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import itertools
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from envs.libero.environment import LiberoEnv
from envs.rendering import describe_backend

SIZES = (0, 64, 224)
"""Sides of the images of two cameras, pixels; 0 draws nothing."""
MIN_SPEEDUP = {0: 3.0, 64: 12.0, 224: 10.0}
MAX_CHUNKED_SHARE = {64: 0.7, 224: 0.55}
"""CPU time of episodes that are drawn once a chunk, of that of episodes drawn in every step."""
MIN_PAIR, MAX_FURTHER_MB, MAX_RESET_MS = 1.7, 150.0, 10.0
CHUNK = 8
NUM_WARM_UP_STEPS = 20
FAST_STEPS_PER_STOCK_STEP = 6
"""So that a round takes both sides about equally long."""
NUM_RESETS = 20
STOCK, FAST = "stock", "fast"


@dataclass(slots=True, kw_only=True)
class Figures:
    """What was measured; lists hold one figure a round."""

    steps_per_s: dict[str, dict[int, list[float]]] = field(default_factory=lambda: {STOCK: {}, FAST: {}})
    """By stepping and size."""
    pair: list[float] = field(default_factory=list)
    """Steps per second of two workers together, of one's alone; 64 px."""
    chunked_share: dict[int, list[float]] = field(default_factory=dict)
    """CPU time of equal episodes drawn once a chunk, of that of episodes drawn in every step, by size."""
    is_same_outcome: bool = True
    """Whether these ended in bit-equal states."""
    further_mb: float = 0.0
    """What a second environment of the same scene, drawn at 64 px, adds to a worker."""
    place_ms: float = 0.0
    """Median of putting a scene into an official state."""
    reset_ms: float = 0.0
    """Median of a whole reset: placing, ten control steps in which the scene settles, two pictures of 64 px."""

    def speedup(self, size: int) -> float:
        return statistics.median(self.steps_per_s[FAST][size]) / statistics.median(self.steps_per_s[STOCK][size])


class Worker:
    """An environment in a process of its own that answers orders, one line of JSON each."""

    def __init__(self, stepping: str, task: str, size: int) -> None:
        driver = "egl" if describe_backend().name == "egl" else "osmesa"
        command = [sys.executable, "-P", __file__, "--serve", stepping, "--task", task, "--size", str(size)]
        variables = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        if stepping == STOCK:  # which draws by itself
            variables["MUJOCO_GL"] = driver
        self._process = subprocess.Popen(
            command, env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, order: str, count: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order} {count}\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                "the process with the environment ended, see above; stock LIBERO draws with libegl1 and libegl-mesa0 alone"
            )
        return json.loads(line)

    def ask(self, order: str, count: int) -> Any:
        self.begin(order, count)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def walk(seed: int) -> Iterator[np.ndarray]:
    """Yield actions that wander and hold for five control steps."""
    rng = np.random.default_rng(seed)
    while True:
        action = np.concatenate([rng.uniform(-0.7, 0.7, 6), rng.choice([-1.0, 1.0], 1)])
        yield from itertools.repeat(action, 5)


def serve(stepping: str, task: str, size: int) -> None:
    """Answer orders from stdin until it closes."""
    orders = stock_orders(task, size) if stepping == STOCK else fast_orders(task, size)
    for line in sys.stdin:
        order, count = line.split()
        print(json.dumps(orders[order](int(count))), flush=True)


def stock_orders(task: str, size: int) -> Mapping[str, Callable[[int], Any]]:
    """Return LIBERO's own environment as a function of the number of steps that says how many seconds they took."""
    suite, task_id = task.split("/")
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        from libero.libero.envs import OffScreenRenderEnv  # this process alone draws with robosuite
        from libero.libero.envs.env_wrapper import ControlEnv

        from envs.libero.stock import open_stock_task

        opened = open_stock_task(suite, int(task_id))
        options: dict[str, Any] = {"bddl_file_name": str(opened.bddl_path), "ignore_done": True}
        if size:
            env = OffScreenRenderEnv(camera_heights=size, camera_widths=size, **options)
        else:
            env = ControlEnv(has_offscreen_renderer=False, use_camera_obs=False, **options)
        env.seed(0)
        env.reset()
        env.set_init_state(opened.initial_states[0])
    atexit.register(env.close)  # before robosuite's own farewell to OpenGL, after which it cannot free anything
    actions = walk(0)
    return {"steps": lambda count: _seconds(env.step, itertools.islice(actions, count))}


def fast_orders(task: str, size: int) -> Mapping[str, Callable[[int], Any]]:
    """Return what can be asked of a lean environment, by name; each takes a number and returns plain data."""
    suite, task_id = task.split("/")

    def make() -> LiberoEnv:
        made = LiberoEnv(suite=suite, task_id=int(task_id), image_size=size or 64, max_steps=10**9)
        made.reset(options={"initial_state": 0})
        return made

    env, others, actions = make(), list[LiberoEnv](), walk(0)

    def episode(seed: int, chunk: int) -> tuple[float, np.ndarray]:
        """Return the CPU seconds of 100 steps that are drawn every `chunk`, and the state they end in."""
        env.reset(options={"initial_state": seed % env.num_initial_states})
        began = time.process_time()
        for number, action in enumerate(itertools.islice(walk(seed), 100)):
            if number % chunk == 0:
                env.observe()
            env.advance(action)
        return time.process_time() - began, env.get_state()

    def chunked(seed: int) -> dict[str, Any]:
        (whole_s, whole_end), (chunked_s, chunked_end) = episode(seed, 1), episode(seed, CHUNK)
        return {"share": chunked_s / whole_s, "is_same": bool(np.array_equal(whole_end, chunked_end))}

    def further(count: int) -> float:
        """Return the memory that another environment of the scene took, MB."""
        before = _memory_mb()
        others.extend(make() for _ in range(count))
        return (_memory_mb() - before) / count

    def resets(count: int) -> dict[str, float]:
        whole, placing = [], []
        for number in range(count):
            whole.append(_seconds(lambda index: env.reset(options={"initial_state": index}), [number]))
            placing.append(_seconds(env.set_state, [env.get_state()]))
        return {"reset_ms": 1000 * statistics.median(whole), "place_ms": 1000 * statistics.median(placing)}

    return {
        "steps": lambda count: _seconds(env.step if size else env.advance, itertools.islice(actions, count)),
        "chunked": chunked,
        "further": further,
        "resets": resets,
    }


def _seconds(call: Callable[[Any], Any], arguments: Any) -> float:
    began = time.perf_counter()
    for argument in arguments:
        call(argument)
    return time.perf_counter() - began


def _memory_mb() -> float:
    """Return what this process alone holds, MB; its peak where the system does not say more."""
    with contextlib.suppress(OSError), open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(task: str, *, sizes: Sequence[int], num_rounds: int, num_stock_steps: int) -> Figures:
    """Alternate rounds of stock and lean stepping at every size, then measure what lean environments cost besides."""
    figures = Figures()
    for size in sizes:
        with Worker(STOCK, task, size) as stock, Worker(FAST, task, size) as fast:
            counts = {STOCK: num_stock_steps, FAST: num_stock_steps * FAST_STEPS_PER_STOCK_STEP}
            workers = {STOCK: stock, FAST: fast}
            for name, worker in workers.items():
                worker.ask("steps", NUM_WARM_UP_STEPS)
                figures.steps_per_s[name][size] = []
            for round_number in range(num_rounds):
                for name, worker in workers.items():
                    figures.steps_per_s[name][size].append(counts[name] / worker.ask("steps", counts[name]))
                if size:
                    answer = fast.ask("chunked", round_number)
                    figures.chunked_share.setdefault(size, []).append(answer["share"])
                    figures.is_same_outcome &= answer["is_same"]
    _measure_workers(task, figures, num_rounds=num_rounds, num_steps=num_stock_steps * FAST_STEPS_PER_STOCK_STEP)
    return figures


def _measure_workers(task: str, figures: Figures, *, num_rounds: int, num_steps: int) -> None:
    with Worker(FAST, task, 64) as first, Worker(FAST, task, 64) as second:
        for worker in (first, second):
            worker.ask("steps", NUM_WARM_UP_STEPS)
        for _ in range(num_rounds):
            alone_s = first.ask("steps", num_steps)
            for worker in (first, second):
                worker.begin("steps", num_steps)
            together_s = max(first.answer(), second.answer())
            figures.pair.append(2 * alone_s / together_s)
        resets = first.ask("resets", NUM_RESETS)
        figures.place_ms, figures.reset_ms = resets["place_ms"], resets["reset_ms"]
        figures.further_mb = first.ask("further", 2)


def shortfalls(figures: Figures) -> list[str]:
    """Return what is short of the promises, in words."""
    missed = []
    for size in figures.steps_per_s[FAST]:
        if figures.speedup(size) < MIN_SPEEDUP[size]:
            missed.append(f"{_size(size)}: {figures.speedup(size):.1f} times stock, {MIN_SPEEDUP[size]:g} wanted")
    for size, shares in figures.chunked_share.items():
        if statistics.median(shares) > MAX_CHUNKED_SHARE[size]:
            missed.append(f"{_size(size)} once a chunk: {statistics.median(shares):.2f}, {MAX_CHUNKED_SHARE[size]:g} wanted")
    if not figures.is_same_outcome:
        missed.append("episodes drawn once a chunk end elsewhere than those drawn in every step")
    if statistics.median(figures.pair) < MIN_PAIR:
        missed.append(f"two workers: {statistics.median(figures.pair):.2f} times one, {MIN_PAIR:g} wanted")
    if figures.further_mb > MAX_FURTHER_MB:
        missed.append(f"a further environment takes {figures.further_mb:.0f} MB, {MAX_FURTHER_MB:.0f} wanted")
    if figures.place_ms > MAX_RESET_MS:
        missed.append(f"placing takes {figures.place_ms:.1f} ms, {MAX_RESET_MS:g} wanted")
    return missed


def _size(size: int) -> str:
    return f"{size} px" if size else "nothing drawn"


def _print_table(task: str, figures: Figures, missed: Sequence[str]) -> None:
    print(f"{task}, two cameras, 2 ms physics, drawn in every step ({describe_backend().id}); control steps per second")
    print(f"{'':<16}{'stock':>8}{'lean':>8}{'times':>8}{'of CPU, once a chunk':>22}")
    for size in figures.steps_per_s[FAST]:
        stock, fast = (statistics.median(figures.steps_per_s[name][size]) for name in (STOCK, FAST))
        share = f"{statistics.median(figures.chunked_share[size]):.2f}" if size in figures.chunked_share else ""
        print(f"{_size(size):<16}{stock:>8.1f}{fast:>8.1f}{figures.speedup(size):>8.1f}{share:>22}")
    pair, further = statistics.median(figures.pair), figures.further_mb
    print(f"two workers are {pair:.2f} times one; a further environment of the same scene takes {further:.0f} MB")
    print(f"placing {figures.place_ms:.1f} ms, a whole reset, ten settling steps and two pictures, {figures.reset_ms:.0f} ms")
    print(*missed, sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; with --require, exit 1 when a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="libero_object/0", metavar="SUITE/N", help="task that both step")
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=list(SIZES), help="sides of the images; 0: none")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--stock-steps", type=int, default=20, help="control steps of stock LIBERO per round")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail when a promise is missed")
    parser.add_argument("--serve", choices=(STOCK, FAST), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=64, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve, options.task, options.size)
        return 0
    figures = measure(options.task, sizes=options.sizes, num_rounds=options.rounds, num_stock_steps=options.stock_steps)
    missed = shortfalls(figures)
    if options.json:
        print(json.dumps(asdict(figures) | {"missed": missed}))
    else:
        _print_table(options.task, figures, missed)
    return 1 if options.require and missed else 0


if __name__ == "__main__":
    sys.exit(main())
