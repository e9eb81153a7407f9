"""Scores, their intervals, and the identity of what was evaluated."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from opentau.intervals import wilson_interval
from opentau.rollout.evaluation import EvalSpec, eval_spec, evaluation_plans, score
from opentau.rollout.session import RolloutSession
from opentau.types import EpisodePlan
from tests.fakes import ScriptedPolicy
from tests.unit.rollout.sessions import options

TASKS = ("counting/0", "counting/1")


def spec(plans: list[EpisodePlan], **changes: object) -> EvalSpec:
    constants = {
        "env_ids": {task: "counting-v0" for task in TASKS},
        "max_steps": {task: 60 for task in TASKS},
        "execute_horizon": 6,
        "delay_ticks": 2,
        "rendering": "none",
    }
    return eval_spec(plans, **(constants | changes))


def plans(**changes: object) -> list[EpisodePlan]:
    return evaluation_plans(TASKS, **({"name": "eval", "policy_id": "p", "num_episodes": 4, "seed": 1} | changes))


@pytest.mark.parametrize(
    ("successes", "episodes", "expected"),
    [(8, 10, (0.490162, 0.943318)), (0, 10, (0.0, 0.277533)), (50, 50, (0.928652, 1.0)), (0, 0, (0.0, 1.0))],
)
def test_wilson_intervals_are_the_textbook_s(successes, episodes, expected):
    assert wilson_interval(successes, episodes) == pytest.approx(expected, abs=1e-6)


def test_wilson_intervals_cover_the_true_share_about_as_often_as_they_say():
    draws = np.random.default_rng(0).binomial(50, 0.7, 2000)
    covered = [low <= 0.7 <= high for low, high in (wilson_interval(int(k), 50) for k in draws)]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_more_successes_than_episodes_are_refused():
    with pytest.raises(ValueError, match="11 successes of 10"):
        wilson_interval(11, 10)


def test_two_policies_meet_the_same_episodes():
    first, second = plans(), plans(name="other", policy_id="q")
    assert [(p.seed, p.task_id, p.initial_state) for p in first] == [(p.seed, p.task_id, p.initial_state) for p in second]
    assert len({plan.seed for plan in first}) == len(first)
    assert spec(first).id == spec(second).id


def test_evaluations_continue_where_the_last_batch_ended():
    whole = plans(num_episodes=6)
    assert plans(num_episodes=2) + plans(num_episodes=4, first_episode=2) == whole


def test_official_states_are_taken_in_order():
    assert [plan.initial_state for plan in plans(is_official=True)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {plan.initial_state for plan in plans()} == {None}


@pytest.mark.parametrize("change", [{"execute_horizon": 7}, {"rendering": "egl"}, {"env_ids": {t: "v1" for t in TASKS}}])
def test_whatever_a_score_depends_on_changes_its_id(change):
    assert spec(plans(), **change).id != spec(plans()).id
    assert spec(plans(seed=2)).id != spec(plans(is_official=True)).id != spec(plans()).id


def test_an_evaluation_reports_each_task_and_the_whole_as_plain_data():
    wanted = plans()
    with RolloutSession(options(), policies={"p": ScriptedPolicy(noise=0.1, speed=1.0)}) as session:
        result, again = (score(session.run(wanted), eval_spec_id=spec(wanted).id) for _ in range(2))
    report = json.loads(json.dumps(result.to_dict()))
    assert again == result
    assert report["policy"] == "scripted-1"
    assert report["episodes"] == 8 == sum(task["episodes"] for task in report["tasks"].values())
    assert 0 < report["successes"] == sum(task["successes"] for task in report["tasks"].values())
    assert report["interval"] == list(wilson_interval(report["successes"], 8))
    assert report["eval_spec"] == spec(wanted).id
    assert report["errors"] == 0


def test_the_versions_that_matter_are_part_of_the_spec():
    described = spec(plans())
    assert {"opentau-loop", "mujoco"} <= set(described.versions)
    assert dataclasses.replace(described, versions={"mujoco": "3.4.0"}).id != described.id
