"""The plan of a run: its stages and its numbered episodes; every seed of a run comes from here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from opentau.loop.options import LoopOptions
from opentau.rollout.evaluation import evaluation_plans
from opentau.types import Actor, EpisodePlan, content_hash, derive_seed

INCUMBENT, CANDIDATE = "incumbent", "candidate"
FINAL, GUARD = "final", "guard"


def demonstration_plans(*, tasks: Sequence[str], first: int, count: int, seed: int) -> list[EpisodePlan]:
    """Return `count` expert episodes numbered from `first`, the tasks in turn."""
    return [
        EpisodePlan(
            index=index,
            episode_id=f"demonstrations/{index:06d}",
            task_id=tasks[index % len(tasks)],
            seed=derive_seed(seed, "demonstrations", index),
            actor=Actor.EXPERT,
        )
        for index in range(first, first + count)
    ]


def collection_plans(
    *, tasks: Sequence[str], iteration: int, episodes: int, supervised_share: float, seed: int
) -> list[EpisodePlan]:
    """Return the autonomous episodes of an iteration; a seeded share of them is supervised."""
    plans = []
    for index in range(episodes * len(tasks)):
        episode_seed = derive_seed(seed, "collect", iteration, index)
        # Spread evenly over the plan, so that every prefix of it has the same share.
        is_supervised = int((index + 1) * supervised_share) > int(index * supervised_share)
        plans.append(
            EpisodePlan(
                index=index,
                episode_id=f"collect-{iteration}/{index:06d}",
                task_id=tasks[index % len(tasks)],
                seed=episode_seed,
                actor=Actor.POLICY,
                policy_id=INCUMBENT,
                is_supervised=is_supervised,
            )
        )
    return plans


def paired_plans(*, tasks: Sequence[str], iteration: int, num_pairs: int, seed: int) -> list[EpisodePlan]:
    """Return the episodes of the first `num_pairs` pairs: incumbent and candidate on one placement, seed and noise."""
    per_task = -(-num_pairs // len(tasks))
    members = [
        evaluation_plans(
            tasks,
            name=f"gate-{iteration}/{policy_id}",
            policy_id=policy_id,
            num_episodes=per_task,
            seed=derive_seed(seed, "gate", iteration),
        )
        for policy_id in (INCUMBENT, CANDIDATE)
    ]
    paired = [plan for pair in list(zip(*members, strict=True))[:num_pairs] for plan in pair]
    return [dataclasses.replace(plan, index=index) for index, plan in enumerate(paired)]


def interleaved_plans(*, tasks: Sequence[str], iteration: int, num_pairs: int, seed: int) -> list[EpisodePlan]:
    """Return the same number of episodes of both policies, each with a seed of its own, two by two in a random order.

    Nothing in an episode's id tells whose it is, so that who resets the scene and labels the outcome stays blind.
    """
    plans: list[EpisodePlan] = []
    for number in range(num_pairs):
        order = [INCUMBENT, CANDIDATE]
        if derive_seed(seed, "order", iteration, number) % 2:
            order.reverse()
        for policy_id in order:
            index = len(plans)
            plans.append(
                EpisodePlan(
                    index=index,
                    episode_id=f"gate-{iteration}/{index:06d}",
                    task_id=tasks[number % len(tasks)],
                    seed=derive_seed(seed, "gate", iteration, "interleaved", index),
                    actor=Actor.POLICY,
                    policy_id=blind_name(policy_id, iteration=iteration, seed=seed),
                    is_recorded=False,
                )
            )
    return plans


def blind_name(policy_id: str, *, iteration: int, seed: int) -> str:
    """Return what a policy is called where nobody may know which one it is."""
    return f"policy-{content_hash([seed, 'gate', iteration, policy_id])[:8]}"


def planned_stages(options: LoopOptions) -> list[str]:
    """Return the names of all stages of a loop in order."""
    fitted, labelled = (("value-0",), ("value", "label")) if options.learns_values else ((), ())
    pretrained = ["label-0", "update-0"] if options.value.labels.demonstration_share is not None else []
    evaluated = ["evaluate-0"] if options.evaluation.episodes else []
    first = ["demonstrations-0", "sft-0", *fitted, *pretrained, *evaluated]
    guards = [f"{GUARD}-{name}" for name in options.gate.guards]
    work = ("collect", *labelled, "update", *(() if options.gate.is_open else ("gate", *guards)))
    cycle = [f"{name}-{iteration}" for iteration in range(1, options.iterations + 1) for name in work]
    scores = [score_stage(0)] + ([score_stage(options.iterations)] if options.iterations else [])
    further = [score_stage(options.iterations, indicator=indicator) for indicator in options.evaluation.final_indicators]
    return [*first, *cycle, *scores, *further]


def score_stage(iteration: int, *, indicator: str | None = None) -> str:
    """Return the name of the stage that scores the policy that stands after an iteration on the final states."""
    return f"{FINAL}-{indicator}-{iteration}" if indicator else f"{FINAL}-{iteration}"


def final_plans(*, tasks: Sequence[str], num_official: int, num_drawn: int, seed: int, name: str) -> list[EpisodePlan]:
    """Return the episodes of a final score: official initial states, then placements drawn from the seed."""
    seed = derive_seed(seed, FINAL)
    official = evaluation_plans(
        tasks, name=f"{name}/official", policy_id=CANDIDATE, num_episodes=num_official, seed=seed, is_official=True
    )
    drawn = evaluation_plans(
        tasks, name=f"{name}/drawn", policy_id=CANDIDATE, num_episodes=num_drawn, seed=derive_seed(seed, "drawn")
    )
    return [dataclasses.replace(plan, index=index) for index, plan in enumerate([*official, *drawn])]
