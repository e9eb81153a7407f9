"""Each plan is handed out until its result is there once."""

from __future__ import annotations

import pytest

from opentau.errors import OptionError
from opentau.rollout.schedule import PlanQueue
from opentau.types import Actor, EpisodePlan


def plans(*tasks: str) -> list[EpisodePlan]:
    return [
        EpisodePlan(index=i, episode_id=f"e/{i}", task_id=task, seed=i, actor=Actor.POLICY, policy_id="p")
        for i, task in enumerate(tasks)
    ]


def test_plans_are_taken_in_order_but_a_station_stays_with_its_task():
    queue = PlanQueue(plans("a", "b", "a"))
    assert queue.take("s", prefer_task=None).index == 0
    assert queue.take("s", prefer_task="a").index == 2
    assert queue.take("s", prefer_task="a").index == 1
    assert queue.take("s", prefer_task="a") is None


def test_a_lost_plan_is_next_in_line_and_its_losses_are_counted():
    queue = PlanQueue(plans("a", "a"))
    queue.take("s1", prefer_task=None)
    assert queue.lose("s1").num_losses == 1
    assert queue.take("s2", prefer_task=None).index == 0
    assert queue.lose("s2").num_losses == 2
    assert queue.lose("s2") is None


def test_a_late_result_of_a_redone_plan_counts_once():
    queue = PlanQueue(plans("a"))
    queue.take("s1", prefer_task=None)
    queue.lose("s1")
    assert queue.take("s2", prefer_task=None).index == 0
    assert queue.finish("s1", "e/0")
    assert not queue.finish("s2", "e/0")


def test_a_result_that_overtakes_the_loss_of_its_station_is_not_redone():
    queue = PlanQueue(plans("a"))
    queue.take("s1", prefer_task=None)
    queue.lose("s1")
    assert queue.finish("s1", "e/0")
    assert queue.take("s2", prefer_task=None) is None


def test_results_of_other_runs_do_not_count():
    assert not PlanQueue(plans("a")).finish("s1", "earlier/0")


def test_plans_with_one_index_or_name_are_refused():
    with pytest.raises(OptionError, match="number them apart"):
        PlanQueue(plans("a") * 2)
