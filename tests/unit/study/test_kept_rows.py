"""Rows of an earlier sitting stand for plans only by the options they ran with, and only in whole cells."""

from __future__ import annotations

from dataclasses import replace

from opentau.study.plan import RunPlan
from opentau.study.running import kept_rows
from tests.unit.study.invented_rows import row, share

PLANS = [
    RunPlan(variant=variant, tasks=(0,), seed=seed, overrides=(), options_id=f"{variant}-{seed}")
    for seed in (0, 1)
    for variant in ("recap", "resft")
]
ROWS = [
    replace(row(plan.variant, seed=plan.seed, first=share(3), final=share(5)), options_id=plan.options_id) for plan in PLANS
]


def test_rows_of_whole_cells_are_kept() -> None:
    assert kept_rows(ROWS, PLANS) == {plan.name: (row,) for plan, row in zip(PLANS, ROWS, strict=True)}


def test_a_row_that_ran_with_other_options_takes_its_cell_with_it() -> None:
    changed = [ROWS[0], replace(ROWS[1], options_id="other"), *ROWS[2:]]
    assert sorted(kept_rows(changed, PLANS)) == ["recap-task0-seed1", "resft-task0-seed1"]


def test_a_run_of_several_tasks_needs_a_row_of_each() -> None:
    plan = RunPlan(variant="recap", tasks=(3, 0), seed=0, overrides=(), options_id="both")
    rows = [replace(row("recap", seed=0, task=task, first=share(3), final=share(5)), options_id="both") for task in (0, 3)]
    assert plan.name == "recap-task3_0-seed0"
    assert kept_rows(rows, [plan]) == {plan.name: (rows[1], rows[0])}
    assert kept_rows(rows[:1], [plan]) == {}


def test_a_cell_that_lacks_a_row_is_run_again() -> None:
    assert sorted(kept_rows(ROWS[1:], PLANS)) == ["recap-task0-seed1", "resft-task0-seed1"]
    assert kept_rows([], PLANS) == {}
