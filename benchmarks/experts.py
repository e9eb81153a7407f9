"""Score the clean experts on LIBERO's official initial states, by stock LIBERO's own success check."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from dataclasses import asdict, dataclass

# Stepping is single-threaded; set before numpy loads, and inherited by the workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import mujoco
import numpy as np

from envs.experts.tasks import TaskExpert
from envs.libero.environment import STEPPINGS, LiberoEnv

REQUIRED_MEANS = {"libero_object": 0.95, "libero_spatial": 0.9, "libero_goal": 0.85, "libero_10": 0.65}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The episodes of one task."""

    suite: str
    task_id: int
    first_state: int
    num_states: int
    stepping: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """What the expert reached on one task."""

    task_id: int
    prompt: str
    successes: int
    episodes: int
    median_steps: int | None
    """Control steps of the successful episodes; None without one."""
    failed_states: tuple[int, ...]
    """Official initial states on which it failed."""
    wall_s: float
    refusal: str = ""
    """What the expert has no skill for; such a state counts as failed."""


def score_task(job: Job) -> TaskScore:
    """Play the clean expert once from each of a task's official states that the job names."""
    began = time.perf_counter()
    env = LiberoEnv(suite=job.suite, task_id=job.task_id, stepping=job.stepping, image_size=8)
    steps, failed, refusal = [], [], ""
    states = range(job.first_state, job.first_state + job.num_states)
    expert = TaskExpert(env)
    for state in states:
        env.reset(options={"initial_state": state})
        try:
            expert.start(seed=state, is_clean=True)
        except ValueError as error:
            refusal = str(error)
            failed.append(state)
            continue
        is_success, is_over, num_steps = False, False, 0
        while not is_over:
            _, is_success, is_truncated, _ = env.advance(expert.act())
            is_over, num_steps = is_success or is_truncated, num_steps + 1
        if is_success:
            steps.append(num_steps)
        else:
            failed.append(state)
    env.close()
    return TaskScore(
        task_id=job.task_id,
        prompt=env.prompt,
        successes=len(steps),
        episodes=job.num_states,
        median_steps=int(np.median(steps)) if steps else None,
        failed_states=tuple(failed),
        wall_s=time.perf_counter() - began,
        refusal=refusal,
    )


def shortfalls(suite: str, scores: list[TaskScore]) -> list[str]:
    """Return a sentence where the promised mean is missed."""
    mean, promised = float(np.mean([score.successes / score.episodes for score in scores])), REQUIRED_MEANS[suite]
    return [f"the mean is {mean:.1%}, promised are {promised:.0%}"] if mean < promised else []


def table(scores: list[TaskScore]) -> list[str]:
    """Return the lines that a person reads."""
    lines = [f"{'task':>4}  {'prompt':<90}{'successes':>10}{'steps':>7}{'wall_s':>8}  failed states"]
    for score in scores:
        result, steps = f"{score.successes}/{score.episodes}", score.median_steps or "-"
        failed = score.refusal or " ".join(map(str, score.failed_states)) or "-"
        lines.append(f"{score.task_id:>4}  {score.prompt:<90}{result:>10}{steps:>7}{score.wall_s:>8.0f}  {failed}")
    return [*lines, f"mean {np.mean([score.successes / score.episodes for score in scores]):.1%}"]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; with --require, exit 1 when a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=list(REQUIRED_MEANS), default="libero_object")
    parser.add_argument("--tasks", type=int, nargs="+", default=list(range(10)), choices=range(10))
    parser.add_argument("--first", type=int, default=0, help="first official initial state")
    parser.add_argument("--states", type=int, default=20, help="official initial states per task; there are 50")
    parser.add_argument(
        "--stepping", choices=STEPPINGS, default="exact", help="'exact' is stock LIBERO, its success check included"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument("--require", action="store_true", help="fail when a promise is missed")
    options = parser.parse_args(arguments)
    jobs = [
        Job(
            suite=options.suite,
            task_id=task_id,
            first_state=options.first,
            num_states=options.states,
            stepping=options.stepping,
        )
        for task_id in options.tasks
    ]
    with multiprocessing.get_context("spawn").Pool(min(options.processes, len(jobs))) as pool:
        scores = pool.map(score_task, jobs, chunksize=1)
    missed = shortfalls(options.suite, scores)
    if options.json:
        facts = {"suite": options.suite, "stepping": options.stepping, "mujoco": mujoco.__version__}
        print(json.dumps({**facts, "scores": [asdict(score) for score in scores], "missed": missed}, indent=1))
    else:
        print(f"{options.suite}, {options.stepping} stepping, mujoco {mujoco.__version__}", *table(scores), *missed, sep="\n")
    return 1 if options.require and missed else 0


if __name__ == "__main__":
    sys.exit(main())
