"""Plans, options and whole sessions that the tests of rollouts share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentau.rollout.options import RolloutOptions
from opentau.rollout.session import RolloutSession
from opentau.types import Actor, Episode, EpisodePlan, EpisodeResult
from tests.fakes import COUNTING_EXPERT, SHAKY_HAND, DistanceCritic, ScriptedPolicy, counting_env

EAGER_SUPERVISOR = {
    "target": "robot_bridge.supervisors:EpisodeSupervisor",
    "args": {"random_takeover_probability": 1.0, "hand_back_after_ticks": [5, 10], "value_drop": 0.05},
}


def options(*, num_stations: int = 2, env: dict[str, Any] | None = None, **changes: Any) -> RolloutOptions:
    defaults: dict[str, Any] = {
        "tasks": {"counting/0": {"task_id": 0}, "counting/1": {"task_id": 1}},
        "expert": COUNTING_EXPERT,
        "supervisor": EAGER_SUPERVISOR,
        "perturbation": SHAKY_HAND,
        "execute_horizon": 6,
        "delay_ticks": 2,
    }
    return RolloutOptions(env=counting_env(**(env or {})), num_stations=num_stations, **(defaults | changes))


def plan(index: int, **changes: Any) -> EpisodePlan:
    defaults: dict[str, Any] = {"task_id": "counting/0", "seed": 100 + index, "actor": Actor.POLICY, "policy_id": "p"}
    return EpisodePlan(index=index, episode_id=f"e/{index}", **(defaults | changes))


def mixed_plans(number: int = 12) -> list[EpisodePlan]:
    """Return supervised, plain, unrecorded and expert episodes of two tasks."""
    kinds: tuple[dict[str, Any], ...] = (
        {"is_supervised": True},
        {},
        {"is_recorded": False, "initial_state": 2},
        {"actor": Actor.EXPERT, "policy_id": ""},
    )
    return [plan(i, task_id=f"counting/{i % 3 % 2}", **kinds[i % 4]) for i in range(number)]


def play(
    plans: Sequence[EpisodePlan], rollout: RolloutOptions, *, policy: ScriptedPolicy | None = None, **session_args: Any
) -> tuple[list[EpisodeResult], dict[int, Episode | None]]:
    """Run plans in a session of their own; return results and what arrived, by index."""
    arrived: dict[int, Episode | None] = {}

    def note(result: EpisodeResult, episode: Episode | None) -> None:
        assert result.plan.index not in arrived, "an episode arrived twice"
        arrived[result.plan.index] = episode

    policies = {"p": policy or ScriptedPolicy()}
    with RolloutSession(rollout, policies=policies, critic=DistanceCritic(), **session_args) as session:
        return session.run(plans, on_episode=note), arrived


def contents(results: Sequence[EpisodeResult], arrived: dict[int, Episode | None]) -> list[tuple]:
    """Everything that must not depend on stations, load and accidents."""
    digests = [episode.digest() if (episode := arrived[result.plan.index]) else None for result in results]
    return [*zip(results, digests, strict=True)]
