"""Scores: what exactly was evaluated, how often it succeeded, and how sure that is."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opentau.intervals import wilson_interval
from opentau.types import Actor, EpisodePlan, EpisodeResult, Outcome, content_hash, derive_seed

VERSIONED_PACKAGES = ("opentau-loop", "mujoco", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSpec:
    """Everything but the policy that a score depends on; equal ids mean comparable numbers."""

    env_ids: Mapping[str, str]
    """Task id to the identity of its environment, options and versions."""
    initial_states: Mapping[str, tuple[int, ...]]
    """Task id to the official states used; empty where placements are drawn from the seeds."""
    seeds: Mapping[str, tuple[int, ...]]
    """Task id to the seeds of its episodes."""
    max_steps: Mapping[str, int]
    """Task id to the longest episode, control steps."""
    execute_horizon: int
    delay_ticks: int
    versions: Mapping[str, str]
    """Package to version."""
    rendering: str
    """OpenGL backend and renderer that made the pixels."""
    chunking: str = ""
    """How chunks followed each other; '' where a policy continued what was committed, and then left out."""

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "chunking" or value}

    @property
    def id(self) -> str:
        """Twelve hex digits of the hash over all fields."""
        return content_hash(self.to_dict())[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Successes out of episodes, with the 95 % Wilson interval."""

    episodes: int
    successes: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.successes, self.episodes)

    def to_dict(self) -> dict[str, Any]:
        return {"episodes": self.episodes, "successes": self.successes, "interval": list(self.interval)}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalResult:
    """What `opentau eval` reports."""

    policy: str
    """policy_version."""
    total: Score
    tasks: Mapping[str, Score]
    errors: int
    """Episodes that ended in an error; they count as not successful."""
    mean_steps: float
    """Control steps of an episode, failures at their full length; successes per simulated hour follow from it."""
    eval_spec: str
    """`EvalSpec.id`."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            **self.total.to_dict(),
            "errors": self.errors,
            "mean_steps": self.mean_steps,
            "tasks": {task_id: score.to_dict() for task_id, score in sorted(self.tasks.items())},
            "eval_spec": self.eval_spec,
        }


def evaluation_plans(
    tasks: Iterable[str],
    *,
    name: str,
    policy_id: str,
    num_episodes: int,
    seed: int,
    first_episode: int = 0,
    is_official: bool = False,
) -> list[EpisodePlan]:
    """Return the plans of an evaluation: `num_episodes` for each task, numbered from `first_episode` on.

    Two policies that are given the same arguments but for `name` and `policy_id` meet the same placements and flow
    noise. With `is_official` episode i starts from the official state i, else its seed draws the placement.
    """
    tasks = list(tasks)
    plans = []
    for number in range(first_episode, first_episode + num_episodes):
        for position, task_id in enumerate(tasks):
            index = number * len(tasks) + position
            plans.append(
                EpisodePlan(
                    index=index,
                    episode_id=f"{name}/{index:06d}",
                    task_id=task_id,
                    seed=derive_seed(seed, "evaluation", task_id, number),
                    actor=Actor.POLICY,
                    initial_state=number if is_official else None,
                    policy_id=policy_id,
                    is_recorded=False,
                )
            )
    return plans


def eval_spec(
    plans: Sequence[EpisodePlan],
    *,
    env_ids: Mapping[str, str],
    max_steps: Mapping[str, int],
    execute_horizon: int,
    delay_ticks: int,
    rendering: str,
    chunking: str = "",
) -> EvalSpec:
    """Describe what these plans evaluate; policy and episode names are no part of it.

    `env_ids` and `max_steps` by task, as the environments say (`robot_bridge.describe`).
    """
    tasks = sorted({plan.task_id for plan in plans})
    by_task = {task_id: [plan for plan in plans if plan.task_id == task_id] for task_id in tasks}
    return EvalSpec(
        env_ids={task_id: env_ids[task_id] for task_id in tasks},
        initial_states={
            task_id: tuple(plan.initial_state for plan in group if plan.initial_state is not None)
            for task_id, group in by_task.items()
        },
        seeds={task_id: tuple(plan.seed for plan in group) for task_id, group in by_task.items()},
        max_steps={task_id: max_steps[task_id] for task_id in tasks},
        execute_horizon=execute_horizon,
        delay_ticks=delay_ticks,
        versions=_versions(),
        rendering=rendering,
        chunking=chunking,
    )


def score(results: Sequence[EpisodeResult], *, eval_spec_id: str) -> EvalResult:
    """Return the score of finished episodes of one policy."""
    tasks = sorted({result.plan.task_id for result in results})
    return EvalResult(
        policy=next((result.policy_version for result in results if result.policy_version), ""),
        total=_score(results),
        tasks={task_id: _score([result for result in results if result.plan.task_id == task_id]) for task_id in tasks},
        errors=sum(result.outcome is Outcome.ERROR for result in results),
        mean_steps=sum(result.num_steps for result in results) / max(1, len(results)),
        eval_spec=eval_spec_id,
    )


def _score(results: Sequence[EpisodeResult]) -> Score:
    return Score(episodes=len(results), successes=sum(result.is_success for result in results))


def _versions() -> dict[str, str]:
    """Return the versions of the installed packages that decide an episode's course."""
    versions = {}
    for package in VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
