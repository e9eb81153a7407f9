"""Plans: seeds never meet, supervision is spread evenly, pairs share everything but the policy."""

from __future__ import annotations

import pytest

from opentau.cli.compose import compose_config
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions
from opentau.loop.plans import (
    CANDIDATE,
    INCUMBENT,
    blind_name,
    collection_plans,
    demonstration_plans,
    interleaved_plans,
    paired_plans,
    planned_stages,
)


def test_at_least_half_of_every_prefix_of_a_collection_runs_unsupervised() -> None:
    plans = collection_plans(tasks=["t"], iteration=1, episodes=50, supervised_share=0.4, seed=0)
    supervised = [plan.is_supervised for plan in plans]
    assert sum(supervised) == 20
    assert all(sum(supervised[: n + 1]) <= (n + 1) / 2 for n in range(50))


def test_both_members_of_a_pair_share_task_and_seed() -> None:
    plans = paired_plans(tasks=["a", "b"], iteration=1, num_pairs=5, seed=0)
    assert [plan.index for plan in plans] == list(range(10))
    for incumbent, candidate in zip(plans[::2], plans[1::2], strict=True):
        assert (incumbent.policy_id, candidate.policy_id) == (INCUMBENT, CANDIDATE)
        assert (incumbent.task_id, incumbent.seed) == (candidate.task_id, candidate.seed)


def test_more_pairs_begin_with_the_same_pairs() -> None:
    few = paired_plans(tasks=["a", "b"], iteration=1, num_pairs=4, seed=0)
    many = paired_plans(tasks=["a", "b"], iteration=1, num_pairs=20, seed=0)
    assert many[: len(few)] == few


def test_hardware_episodes_come_two_by_two_in_random_order_and_do_not_say_whose_they_are() -> None:
    plans = interleaved_plans(tasks=["a", "b"], iteration=1, num_pairs=40, seed=0)
    names = {role: blind_name(role, iteration=1, seed=0) for role in (INCUMBENT, CANDIDATE)}
    firsts = [plan.policy_id for plan in plans[::2]]
    assert [{plan.policy_id for plan in plans[i : i + 2]} for i in range(0, 80, 2)] == [set(names.values())] * 40
    assert 10 < firsts.count(names[CANDIDATE]) < 30
    assert len({plan.seed for plan in plans}) == len(plans)
    assert not any(word in f"{plan.episode_id} {plan.policy_id}" for plan in plans for word in (INCUMBENT, CANDIDATE))
    assert interleaved_plans(tasks=["a", "b"], iteration=1, num_pairs=10, seed=0) == plans[:20]
    assert blind_name(CANDIDATE, iteration=2, seed=0) != names[CANDIDATE]


def test_no_two_purposes_of_a_run_share_a_seed() -> None:
    demonstrations = demonstration_plans(tasks=["t"], first=0, count=50, seed=0)
    collected = [collection_plans(tasks=["t"], iteration=i, episodes=50, supervised_share=0.4, seed=0) for i in (1, 2)]
    gates = [paired_plans(tasks=["t"], iteration=i, num_pairs=50, seed=0)[::2] for i in (1, 2)]
    hardware = interleaved_plans(tasks=["t"], iteration=1, num_pairs=50, seed=0)
    seeds = [plan.seed for plans in (demonstrations, *collected, *gates, hardware) for plan in plans]
    assert len(set(seeds)) == len(seeds)


def test_the_stages_of_a_run_are_named_in_order() -> None:
    def stages(*options: str) -> list[str]:
        return planned_stages(LoopOptions.from_config(compose_config("loop", options)))

    cycle = ["collect-1", "value-1", "label-1", "update-1", "gate-1"]
    first = ["demonstrations-0", "sft-0", "value-0", "evaluate-0"]
    assert stages("iterations=0") == [*first, "final-0"]
    assert stages("iterations=1") == [*first, *cycle, "final-0", "final-1"]
    guarded = ("iterations=1", "env=tabletop", "+gate.guards=[noise,light]")
    assert stages(*guarded) == [*first, *cycle, "guard-noise-1", "guard-light-1", "final-0", "final-1"]
    study = ("iterations=1", "evaluation.episodes=0", "gate.is_open=true", "evaluation.final_indicators=[negative]")
    assert stages(*study) == [*first[:3], *cycle[:4], "final-0", "final-1", "final-negative-1"]


def test_guards_need_an_environment_that_can_be_perturbed_and_simulators() -> None:
    def options(*overrides: str) -> LoopOptions:
        return LoopOptions.from_config(compose_config("loop", ["+gate.guards=[noise]", *overrides]))

    assert options("env=tabletop").env.perturbed("noise").args["perturbation"] == ["noise"]
    assert options("env=tabletop", "+env.args.perturbation=light").env.perturbed("noise").args["perturbation"] == [
        "light",
        "noise",
    ]
    with pytest.raises(OptionError, match="takes no option 'perturbation'"):
        options("env=twin/so101")
    with pytest.raises(OptionError, match=r"rollout.num_stations is 0"):
        options("env=tabletop", "rollout.num_stations=0", "+rollout.listen=127.0.0.1:5600")
