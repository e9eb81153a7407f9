"""Planned cost of a study: what rows share is counted once."""

from __future__ import annotations

import pytest

from opentau.cli.compose import compose_config
from opentau.loop.budget import estimate
from opentau.loop.options import LoopOptions
from opentau.study.cost import planned_cpu_s

BASE = ("experiment=tabletop",)


def options(*overrides: str) -> LoopOptions:
    return LoopOptions.from_config(compose_config("loop", [*BASE, *overrides]))


def stage_s(name: str) -> float:
    return sum(cost.cpu_s for cost in estimate(options()) if cost.stage.startswith(name))


def test_one_row_costs_what_its_run_does() -> None:
    assert planned_cpu_s([options()]) == pytest.approx(stage_s(""))


def test_another_improver_adds_its_labels_its_update_and_its_final_score() -> None:
    added = planned_cpu_s([options(), options("improve=resft")]) - planned_cpu_s([options()])
    assert added == pytest.approx(stage_s("label") + stage_s("update") + stage_s("final-1"))


def test_another_lookahead_does_not_fit_the_critic_again_and_another_critic_does() -> None:
    one = planned_cpu_s([options()])
    assert planned_cpu_s([options(), options("value.lookahead=50")]) - one < stage_s("update") + stage_s("final-1") + 5
    assert planned_cpu_s([options(), options("value.fit.num_updates=250")]) - one > stage_s("collect")


def test_another_seed_shares_nothing() -> None:
    assert planned_cpu_s([options(), options("seed=1")]) == pytest.approx(2 * planned_cpu_s([options()]))


def test_guards_of_the_gate_cost_their_pairs_and_nothing_else() -> None:
    gated, guards = "gate.is_open=false", ("+gate.guards=[noise]", "+gate.guard_pairs=10")
    added = planned_cpu_s([options(gated, *guards)]) - planned_cpu_s([options(gated)])
    assert added == pytest.approx(20 * options().env.cost.scored_episode_cpu_s)
