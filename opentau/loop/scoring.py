"""Episodes that are only scored: played where a ledger lacks them, paired, and told as a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentau.loop.evidence import Pair
from opentau.loop.ledger import Ledger
from opentau.loop.run import Product
from opentau.loop.setting import Setting
from opentau.rollout.evaluation import eval_spec, score
from opentau.rollout.session import RolloutSession
from opentau.types import EpisodePlan, EpisodeResult


def play(setting: Setting, session: RolloutSession, plans: Sequence[EpisodePlan], ledger: Ledger) -> list[EpisodeResult]:
    """Play what the ledger lacks and return the results of all plans in their order."""

    def on_episode(result: EpisodeResult, _: object) -> None:
        ledger.add(result)
        setting.run.obey_commands()

    session.run(ledger.missing(plans), on_episode=on_episode)
    return ledger.results(plans)


def pairs_of(results: Sequence[EpisodeResult], *, candidate: str) -> list[Pair]:
    """Return the outcomes of a gate's episodes, two by two."""
    pairs = []
    for first, second in zip(results[::2], results[1::2], strict=True):
        of_candidate, of_incumbent = (first, second) if first.plan.policy_id == candidate else (second, first)
        pairs.append(
            Pair(
                task_id=first.plan.task_id,
                is_incumbent_success=of_incumbent.is_success,
                is_candidate_success=of_candidate.is_success,
            )
        )
    return pairs


def score_of(
    setting: Setting, policy: Product, plans: Sequence[EpisodePlan], results: Sequence[EpisodeResult]
) -> dict[str, Any]:
    """Return what is told of a score; failures are charged their full step limit in the simulated time."""
    chunking = setting.options.rollout.chunking
    spec = eval_spec(
        plans,
        env_ids={task.task_id: task.env_id for task in setting.tasks},
        max_steps=setting.max_steps,
        execute_horizon=setting.options.rollout.execute_horizon,
        delay_ticks=setting.options.rollout.delay_ticks,
        rendering=setting.tasks[0].rendering,
        chunking="" if chunking is None else f"{chunking.mode} {chunking.fade}",
    )
    limits, hz = setting.max_steps, setting.interface.control_hz
    steps = sum(result.num_steps if result.is_success else limits[result.plan.task_id] for result in results)
    return {
        **score(results, eval_spec_id=spec.id).to_dict(),
        "policy": policy.id,
        "simulated_s": steps / hz,
        "max_steps": max(limits.values()),
        "control_hz": hz,
    }
