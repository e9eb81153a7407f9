"""Compare lean LIBERO with stock LIBERO: control steps per second, predicates on the same states, outcomes of episodes."""

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
from dataclasses import asdict, dataclass, field

import numpy as np

from envs.experts.pick_place import PickPlaceExpert
from envs.libero.environment import LiberoEnv
from envs.libero.exact import StockPhysics
from envs.libero.predicates import compile_predicate
from envs.libero.suites import SUITES
from envs.rendering import describe_backend

MIN_SPEEDUP = 10.0
MIN_AGREEMENT = 0.95
IMAGE_SIZE = 64
NUM_WARM_UP_STEPS = 30
FAST_STEPS_PER_STOCK_STEP = 8
"""So that a round takes both sides about equally long."""
STATE_EVERY = 4
"""Every so many control steps of a trajectory all predicates are compared; the goal is compared at every step."""
RANDOM_STEPS = 90
NOISE = 0.3
"""Standard deviation of the noise on every second episode's actions, so that some of them fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Control steps per second at 64 px with two cameras and the official physics."""

    stock: list[float]
    """One figure per round."""
    fast: list[float]

    @property
    def speedup(self) -> float:
        return statistics.median(self.fast) / statistics.median(self.stock)


@dataclass(slots=True, kw_only=True)
class Agreement:
    """How lean and stock stepping compare on one task."""

    task: str
    num_states: int = 0
    """States on which the goal was compared."""
    num_predicates: int = 0
    """Predicate values compared, the goal included."""
    num_true: int = 0
    different_predicates: list[str] = field(default_factory=list)
    episodes: int = 0
    fast_successes: int = 0
    different_outcomes: list[str] = field(default_factory=list)


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


def compare_task(suite: str, task_id: int, *, num_episodes: int) -> Agreement:
    """Play the same episodes under both steppings, and compare predicates on the states of the lean ones."""
    fast, stock = (LiberoEnv(suite=suite, task_id=task_id, image_size=8, stepping=name) for name in ("fast", "exact"))
    result = Agreement(task=f"{suite}/{task_id}")
    comparison = PredicateComparison(fast, stock, result)
    for index in range(num_episodes):
        has_noise = index % 2 == 1
        outcome, states = _play(fast, index, has_noise=has_noise)
        stock_outcome, _ = _play(stock, index, has_noise=has_noise)
        result.episodes += 1
        result.fast_successes += outcome
        if outcome != stock_outcome:
            kind = "noisy" if has_noise else "clean"
            result.different_outcomes.append(
                f"{result.task} initial state {index}, {kind} expert: fast {outcome}, stock {stock_outcome}"
            )
        if index < 2:
            comparison.compare(states)
    comparison.compare(_random_states(fast, seed=task_id))
    for env in (fast, stock):
        env.close()
    return result


def _play(env: LiberoEnv, index: int, *, has_noise: bool) -> tuple[bool, list[np.ndarray]]:
    """Let the expert play from an official state; return success and the states passed through."""
    env.reset(options={"initial_state": index})
    expert, rng = PickPlaceExpert(env), np.random.default_rng(index)
    expert.start(seed=index, is_clean=not has_noise)
    states, is_over, is_success = [env.get_state()], False, False
    while not is_over:
        action = np.asarray(expert.act(), np.float64)
        if has_noise:
            action[:6] += rng.normal(0.0, NOISE, 6)
        _, is_success, is_truncated, _ = env.advance(np.clip(action, -1, 1))
        is_over = is_success or is_truncated
        states.append(env.get_state())
    return is_success, states


def _random_states(env: LiberoEnv, *, seed: int) -> list[np.ndarray]:
    env.reset(seed=seed)
    states = []
    for action in itertools.islice(_walk(seed), RANDOM_STEPS):
        env.advance(action)
        states.append(env.get_state())
    return states


class PredicateComparison:
    """Puts states into both simulators and compares LIBERO's predicates with ours, value by value."""

    def __init__(self, fast: LiberoEnv, stock: LiberoEnv, result: Agreement) -> None:
        physics = stock.physics
        assert isinstance(physics, StockPhysics)
        self._fast, self._stock, self._physics, self._result = fast, stock, physics, result
        scene = physics.scene
        relations = [("on", *pair) for pair in itertools.permutations(scene.object_joints, 2)]
        relations += [
            (relation, name, site)
            for relation, name, site in itertools.product(("on", "in"), scene.object_joints, scene.site_parents)
            if scene.site_parents[site] != name
        ]
        self._checks = {relation: compile_predicate(fast.model, scene, relation) for relation in relations}

    def compare(self, states: list[np.ndarray]) -> None:
        """Compare the goal on every state and all other predicates on every fourth."""
        for number, state in enumerate(states):
            self._fast.set_state(state)
            self._stock.set_state(state)
            self._count("goal", self._fast.physics.is_success(), self._physics.is_success())
            self._result.num_states += 1
            if number % STATE_EVERY == 0:
                for relation, check in self._checks.items():
                    expected = bool(self._physics.stock_env._eval_predicate(relation))
                    self._count(" ".join(relation), check(self._fast.data), expected)

    def _count(self, name: str, ours: bool, stock: bool) -> None:
        self._result.num_predicates += 1
        self._result.num_true += stock
        if ours != stock:
            self._result.different_predicates.append(f"{self._result.task} {name}: fast {ours}, stock {stock}")


def shortfalls(speed: Speed | None, rows: list[Agreement]) -> list[str]:
    """Return a sentence for everything that misses what lean stepping promises."""
    missed = []
    if speed and speed.speedup < MIN_SPEEDUP:
        missed.append(f"lean stepping is {speed.speedup:.1f} times as fast as stock, at least {MIN_SPEEDUP:.0f} times wanted")
    missed += [line for row in rows for line in row.different_predicates]
    episodes, different = sum(row.episodes for row in rows), sum(len(row.different_outcomes) for row in rows)
    if episodes and different > (1 - MIN_AGREEMENT) * episodes:
        missed.append(f"{different} of {episodes} episodes end differently, at most {1 - MIN_AGREEMENT:.0%} allowed")
    return missed


def _print_table(speed: Speed | None, rows: list[Agreement], missed: list[str]) -> None:
    if speed:
        print(f"control steps per second at {IMAGE_SIZE} px, two cameras, 2 ms physics ({describe_backend().id})")
        for name in ("stock", "fast"):
            rounds = getattr(speed, name)
            print(f"  {name:<6} median {statistics.median(rounds):7.1f}   rounds {' '.join(f'{r:.1f}' for r in rounds)}")
        print(f"  fast is {speed.speedup:.1f} times as fast")
    if rows:
        print(
            f"{'task':<20}{'states':>8}{'predicates':>12}{'true':>8}{'different':>11}{'episodes':>10}{'success':>9}{'differ':>8}"
        )
    for row in rows:
        print(
            f"{row.task:<20}{row.num_states:>8}{row.num_predicates:>12}{row.num_true:>8}{len(row.different_predicates):>11}"
            f"{row.episodes:>10}{row.fast_successes:>9}{len(row.different_outcomes):>8}"
        )
    for row in rows:
        print(*row.different_outcomes, sep="\n", end="\n" if row.different_outcomes else "")
    print(*missed, sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; with --require, exit 1 when a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds of the speed comparison; 0 skips it")
    parser.add_argument("--stock-steps", type=int, default=20, help="control steps of stock LIBERO per round")
    parser.add_argument(
        "--episodes", type=int, default=6, help="episodes per task, under each stepping; 0 skips the comparison"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--require", action="store_true", help="fail when a promise is missed")
    parser.add_argument("--serve-stock", metavar="SUITE/TASK", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve_stock:
        suite, task_id = options.serve_stock.split("/")
        serve_stock(suite, int(task_id))
        return 0
    speed = None
    if options.rounds:
        speed = measure_speed("libero_object", 0, num_rounds=options.rounds, num_stock_steps=options.stock_steps)
    rows = []
    tasks = [(suite, task_id) for suite, known in SUITES.items() for task_id in range(known.num_tasks)]
    for suite, task_id in tasks if options.episodes else ():
        rows.append(compare_task(suite, task_id, num_episodes=options.episodes))
        print(f"{suite}/{task_id} compared", file=sys.stderr)
    missed = shortfalls(speed, rows)
    if options.json:
        figures = {"speed": speed and asdict(speed) | {"speedup": speed.speedup}, "tasks": [asdict(row) for row in rows]}
        print(json.dumps(figures | {"missed": missed}, indent=1))
    else:
        _print_table(speed, rows, missed)
    return 1 if options.require and missed else 0


if __name__ == "__main__":
    sys.exit(main())
