"""Compare lean LIBERO with stock LIBERO's own check, task by task: predicates on the same states, outcomes of episodes."""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from envs.experts.shapes import Shape
from envs.experts.tasks import TaskExpert
from envs.libero.environment import LiberoEnv
from envs.libero.exact import StockPhysics
from envs.libero.predicates import JOINT_PREDICATES, PLACE_PREDICATES, Predicate, compile_predicate
from envs.libero.suites import SUITES, require_task
from envs.panda.scene import Scene

FOUR_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
ONE_OF_EACH_SCENE = (3, 8, 16, 21, 23, 32, 33, 35, 39, 40, 48, 52, 56, 63, 68, 70, 76, 77, 83, 89)
"""Tasks of libero_90: each of its twenty scenes once, and every kind of goal."""
MIN_AGREEMENT = 0.95
STATE_EVERY = 6
"""Every so many states all predicates are compared; the goal is compared on each."""
RANDOM_STEPS = 40
NOISE = 0.3
"""Standard deviation of the noise on every second expert's actions, so that some of these episodes fail."""
LIFT_M, CARRY_STEPS, LOWER_STEP_M = 0.25, 6, 0.01
NUM_JOINT_STEPS = 8
BEYOND = 0.03
"""How far scripted joints go past the bound of what they are to reach, m or rad."""
REST_STEPS = 12
"""Control steps in which a scripted object may fall and rest, and knobs may turn back."""
STILL = np.array([0.0, 0, 0, 0, 0, 0, -1])
GOAL_ORDER = ("open", "turnon", "turnoff", "on", "in", "close")


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
    goals_seen: list[bool] = field(default_factory=lambda: [False, False])
    """Whether the goal was once false, and once true, on a compared state."""
    episodes: int = 0
    successes: int = 0
    different_outcomes: list[str] = field(default_factory=list)
    cpu_s: float = 0.0


def compare_task(suite: str, task_id: int, *, num_scripted: int, num_expert: int) -> Agreement:
    """Play the same episodes under both steppings, and compare predicates on the states of the lean ones."""
    began = time.process_time()
    fast, stock = (LiberoEnv(suite=suite, task_id=task_id, image_size=8, stepping=name) for name in ("fast", "exact"))
    result = Agreement(task=f"{suite}/{task_id}")
    comparison = PredicateComparison(fast, stock, result)
    for index in range(num_scripted):
        plays = [_play_script(env, index) for env in (fast, stock)]
        _compare_outcomes(result, f"script {index}", plays)
        comparison.compare(plays[0][1])
    for index in range(num_expert if _is_for_the_expert(fast) else 0):
        plays = [_play_expert(env, index) for env in (fast, stock)]
        _compare_outcomes(result, f"expert {index}", plays)
        states = plays[0][1]
        comparison.compare([*states[: -1 : max(1, len(states) // 40)], states[-1]])  # the last one is what success was told of
    comparison.compare(_random_states(fast, seed=task_id))
    for env in (fast, stock):
        env.close()
    result.cpu_s = round(time.process_time() - began, 1)
    return result


def _compare_outcomes(result: Agreement, name: str, plays: Sequence[tuple[bool, list[np.ndarray]]]) -> None:
    (outcome, _), (stock_outcome, _) = plays
    result.episodes += 1
    result.successes += stock_outcome
    if outcome != stock_outcome:
        result.different_outcomes.append(f"{result.task} {name}: fast {outcome}, stock {stock_outcome}")


def _is_for_the_expert(env: LiberoEnv) -> bool:
    """Return whether the expert of whole tasks has a skill for everything in the goal."""
    env.reset(options={"initial_state": 0})
    try:
        TaskExpert(env).start(seed=0, is_clean=True)
    except ValueError:
        return False
    return True


def _play_expert(env: LiberoEnv, index: int) -> tuple[bool, list[np.ndarray]]:
    """Let the expert of whole tasks play from an official state, the odd ones disturbed; return success and states."""
    env.reset(options={"initial_state": index})
    expert, rng, is_disturbed = TaskExpert(env), np.random.default_rng(index), index % 2 == 1
    expert.start(seed=index, is_clean=not is_disturbed)
    states, is_over, is_success = [env.get_state()], False, False
    while not is_over:
        action = np.asarray(expert.act(), np.float64)
        if is_disturbed:
            action[:6] += rng.normal(0.0, NOISE, 6)
        _, is_success, is_truncated, _ = env.advance(np.clip(action, -1, 1))
        is_over = is_success or is_truncated
        states.append(env.get_state())
    return is_success, states


def _play_script(env: LiberoEnv, index: int) -> tuple[bool, list[np.ndarray]]:
    """Bring about the goal by moving objects and joints directly, every predicate in turn; return success and states.

    Objects are lifted, carried and lowered as a hand would and then fall; joints turn step by step. Every second script
    stops short, or lets go beside the target.
    """
    env.reset(options={"initial_state": index})
    rng = np.random.default_rng(index)
    reach = 1.0 if index % 2 == 0 else float(rng.uniform(0.3, 1.05))
    shift = np.zeros(2) if index % 2 == 0 else rng.uniform(-0.06, 0.06, 2)
    states, is_success = [env.get_state()], False
    for predicate in sorted(env.goal, key=lambda words: GOAL_ORDER.index(words[0])):
        moves = _turn(env, predicate, reach) if predicate[0] in JOINT_PREDICATES else _carry(env, predicate, shift)
        for state in moves:
            env.set_state(state)
            states.append(state)
        for _ in range(REST_STEPS):
            is_success = env.advance(STILL)[1] or is_success
            states.append(env.get_state())
    return is_success, states


def _turn(env: LiberoEnv, predicate: tuple[str, ...], reach: float) -> Iterator[np.ndarray]:
    """Yield states in which the joints of a predicate move towards, and at a `reach` of 1 past, its bound."""
    condition = env.physics.scene.joint_conditions[predicate[1]][predicate[0]]
    past = BEYOND if condition.comparison.startswith(">") else -BEYOND
    joints = [env.model.joint(name) for name in condition.joints]
    starts = [float(env.data.qpos[joint.qposadr[0]]) for joint in joints]
    for step in range(1, NUM_JOINT_STEPS + 1):
        for joint, start in zip(joints, starts, strict=True):
            low, high = joint.range
            end = float(np.clip(condition.bound + past, low, high))
            env.data.qpos[joint.qposadr[0]] = start + (end - start) * reach * step / NUM_JOINT_STEPS
            env.data.qvel[joint.dofadr[0]] = 0.0
        yield env.get_state()


def _carry(env: LiberoEnv, predicate: tuple[str, ...], shift: np.ndarray) -> Iterator[np.ndarray]:
    """Yield states in which the object is lifted, carried over its target, and lowered until it touches something."""
    relation, subject, target = predicate
    scene = env.physics.scene
    joint = env.model.joint(scene.object_joints[subject])
    shape = Shape(env.model, env.data, env.model.body(scene.object_bodies[subject]).id)
    place = _middle(env, target) + np.array([*shift, 0.0])
    start = env.data.qpos[joint.qposadr[0] :][:3].copy()
    above = np.array([place[0], place[1], max(start[2], place[2]) + LIFT_M])
    raised = np.array([start[0], start[1], above[2]])
    path = [*np.linspace(start, raised, CARRY_STEPS), *np.linspace(raised, above, CARRY_STEPS)]
    if relation == "in":  # through whatever is above it: drawers and shelves are entered from the front by a hand
        path.append(place + np.array([0.0, 0.0, 0.02]))
    for position in path:
        yield _moved(env, joint, position)
    while relation == "on" and position[2] > place[2] and not _touches_something(env, shape):
        position = position - np.array([0.0, 0.0, LOWER_STEP_M])
        yield _moved(env, joint, position)


def _middle(env: LiberoEnv, target: str) -> np.ndarray:
    """Return the middle of a region or the origin of an object, m, [3]."""
    if target in env.physics.scene.site_sizes:
        return env.data.site(target).xpos.copy()
    return env.data.body(env.physics.scene.object_bodies[target]).xpos.copy()


def _moved(env: LiberoEnv, joint: Any, position: np.ndarray) -> np.ndarray:
    env.data.qpos[joint.qposadr[0] :][:3] = position
    env.data.qvel[joint.dofadr[0] :][:6] = 0.0
    return env.get_state()


def _touches_something(env: LiberoEnv, shape: Shape) -> bool:
    return bool(np.isin(env.data.contact.geom[: env.data.ncon], shape.geoms).any())


def _random_states(env: LiberoEnv, *, seed: int) -> list[np.ndarray]:
    """Return the states of a wandering arm."""
    env.reset(seed=seed)
    rng, states = np.random.default_rng(seed), []
    for step in range(RANDOM_STEPS):
        if step % 5 == 0:
            action = np.concatenate([rng.uniform(-0.7, 0.7, 6), rng.choice([-1.0, 1.0], 1)])
        env.advance(action)
        states.append(env.get_state())
    return states


def known_predicates(scene: Scene) -> list[tuple[str, ...]]:
    """Return everything that can be asked of a scene: each object on each other and in or on each region, each joint."""
    things = [*scene.object_joints, *scene.fixtures]
    relations: list[tuple[str, ...]] = [("on", one, other) for one in scene.object_joints for other in things if one != other]
    relations += [
        (relation, name, site)
        for relation, name, site in itertools.product(PLACE_PREDICATES, scene.object_joints, scene.site_parents)
        if scene.site_parents[site] != name
    ]
    return relations + [(word, thing) for thing, words in scene.joint_conditions.items() for word in words]


class PredicateComparison:
    """Puts states into both simulators and compares LIBERO's predicates with ours, value by value."""

    def __init__(self, fast: LiberoEnv, stock: LiberoEnv, result: Agreement) -> None:
        physics = stock.physics
        assert isinstance(physics, StockPhysics)
        self._fast, self._stock, self._physics, self._result = fast, stock, physics, result
        self._checks: dict[tuple[str, ...], Predicate] = {
            relation: compile_predicate(fast.model, physics.scene, relation) for relation in known_predicates(physics.scene)
        }

    def compare(self, states: Sequence[np.ndarray]) -> None:
        """Compare the goal on every state and all other predicates on every sixth."""
        for number, state in enumerate(states):
            self._fast.set_state(state)
            self._stock.set_state(state)
            is_reached = self._physics.is_success()
            self._count("goal", self._fast.physics.is_success(), is_reached)
            self._result.num_states += 1
            self._result.goals_seen[is_reached] = True
            if number % STATE_EVERY == 0:
                for relation, check in self._checks.items():
                    expected = bool(self._physics.stock_env._eval_predicate(relation))
                    self._count(" ".join(relation), check(self._fast.data), expected)

    def _count(self, name: str, ours: bool, stock: bool) -> None:
        self._result.num_predicates += 1
        self._result.num_true += stock
        if ours != stock:
            self._result.different_predicates.append(f"{self._result.task} {name}: fast {ours}, stock {stock}")


def shortfalls(rows: Sequence[Agreement]) -> list[str]:
    """Return a sentence for everything that misses what lean stepping promises."""
    missed = [line for row in rows for line in row.different_predicates]
    missed += [f"{row.task}: the goal was never reached on a compared state" for row in rows if not row.goals_seen[True]]
    episodes, different = sum(row.episodes for row in rows), sum(len(row.different_outcomes) for row in rows)
    if different > (1 - MIN_AGREEMENT) * episodes:
        missed.append(f"{different} of {episodes} episodes end differently, at most {1 - MIN_AGREEMENT:.0%} allowed")
    return missed


def chosen_tasks(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return (suite, task) of names such as 'libero_goal' and 'libero_90/3'; raises ValueError for others."""
    chosen = []
    for name in names:
        suite, _, number = name.partition("/")
        require_task(suite, int(number or 0))
        chosen += [(suite, task_id) for task_id in ([int(number)] if number else range(SUITES[suite].num_tasks))]
    return chosen


def _print_table(rows: Sequence[Agreement], missed: Sequence[str]) -> None:
    columns = (
        f"{'states':>8}{'predicates':>12}{'true':>8}{'different':>11}{'episodes':>10}{'success':>9}{'differ':>8}{'CPU s':>8}"
    )
    print(f"{'task':<20}{columns}")
    for row in rows:
        print(
            f"{row.task:<20}{row.num_states:>8}{row.num_predicates:>12}{row.num_true:>8}{len(row.different_predicates):>11}"
            f"{row.episodes:>10}{row.successes:>9}{len(row.different_outcomes):>8}{row.cpu_s:>8}"
        )
    for line in itertools.chain.from_iterable(row.different_outcomes for row in rows):
        print(line)
    print(*missed, sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; with --require, exit 1 when a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="SUITE[/N]",
        default=[*FOUR_SUITES, *(f"libero_90/{number}" for number in ONE_OF_EACH_SCENE)],
        help="suites or single tasks (default: the four suites and one task of each of libero_90's scenes)",
    )
    parser.add_argument("--scripted", type=int, default=4, help="scripted episodes per task, under each stepping")
    parser.add_argument("--expert", type=int, default=1, help="expert's episodes per task that it knows, under each stepping")
    parser.add_argument("--minutes", type=float, default=np.inf, help="start no further task after so many CPU-minutes")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--require", action="store_true", help="fail when a promise is missed")
    options = parser.parse_args(arguments)
    rows: list[Agreement] = []
    for suite, task_id in chosen_tasks(options.tasks):
        if time.process_time() > 60 * options.minutes:
            print(f"{suite}/{task_id} is left out: {options.minutes:g} CPU-minutes are over", file=sys.stderr)
            continue
        rows.append(compare_task(suite, task_id, num_scripted=options.scripted, num_expert=options.expert))
        gc.collect()
        print(json.dumps(asdict(rows[-1])) if options.json else f"{rows[-1].task} compared", file=sys.stderr, flush=True)
    missed = shortfalls(rows)
    if options.json:
        print(json.dumps({"tasks": [asdict(row) for row in rows], "missed": missed}, indent=1))
    else:
        _print_table(rows, missed)
    return 1 if options.require and missed else 0


if __name__ == "__main__":
    sys.exit(main())
