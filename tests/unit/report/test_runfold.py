"""The fold of a run's events: what status, screen and report rest on."""

from __future__ import annotations

from typing import Any

import pytest

from opentau import control, events
from opentau.runfold import CURVE_POINTS, LOG_LINES, RunFold, fold
from opentau.runstate import Eta, RunPhase, StageStatus, duration_text, natural_order, thinned
from tests.unit.report.synthetic_run import START_T, WORKS, command_event, run_events


def event(t: float, kind: str, **fields: Any) -> dict[str, Any]:
    return {"t": START_T + t, "process": "loop", "kind": kind, **fields}


def started(*plan: str, **fields: Any) -> dict[str, Any]:
    return event(0, events.RUN_STARTED, run_id="r", command="opentau loop", plan=list(plan), resumed=False, **fields)


def episode(t: float, number: int, *, outcome: str = "success", steps: int = 100, helped: int = 0) -> dict[str, Any]:
    ids = {"stage": "collect-1", "episode_id": f"collect-1/{number:06d}", "station": "station-0"}
    return event(t, events.EPISODE_FINISHED, outcome=outcome, num_steps=steps, num_intervention_steps=helped, **ids)


def test_the_status_has_exactly_the_keys_that_scripts_rely_on() -> None:
    status = fold(run_events()).to_status()
    assert set(status) == {"iterations", "final"}
    assert [set(row) for row in status["iterations"]] == [
        {"policy", "episodes", "successes", "interval", "verdict", "stage_s"}
    ] * 3
    assert [set(row) for row in status["final"]] == [{"policy", "episodes", "successes", "interval"}] * 2
    assert [row["verdict"] for row in status["iterations"]] == [None, "better", "undecided"]
    assert status["iterations"][1]["policy"] == "update-1@77e0"
    assert status["iterations"][1]["stage_s"] == {"collect": 150.0, "value": 85.0, "label": 9.0, "update": 260.0, "gate": 140.0}
    assert status["final"][0] == {"policy": "sft-0@5c1d", "episodes": 50, "successes": 23, "interval": [0.33, 0.596]}
    assert status["final"][-1]["policy"] == "update-1@77e0"


def test_events_taken_one_by_one_and_all_at_once_give_the_same_summary() -> None:
    state = RunFold()
    for one in run_events():
        state.update(one)
        state.summary()
    assert state.summary() == fold(run_events())


def test_a_summary_does_not_change_when_more_events_are_taken() -> None:
    run, state = run_events(), RunFold()
    for one in run[:400]:
        state.update(one)
    early = state.summary()
    for one in run[400:]:
        state.update(one)
    assert early == fold(run[:400])


def test_an_episode_that_a_kill_made_play_twice_counts_once() -> None:
    run = [started("collect-1"), episode(1, 0, outcome="timeout", steps=280), episode(2, 1), episode(3, 0, steps=90, helped=30)]
    tally = fold(run).tallies["collect-1"]
    assert (tally.num_episodes, tally.num_successes, tally.num_steps) == (2, 2, 190)
    assert tally.intervention_rate == pytest.approx(30 / 190)
    assert tally.steps_per_success == 95


def test_a_resumed_run_forgets_the_stage_that_was_interrupted_and_keeps_the_finished_ones() -> None:
    killed = run_events(until="value-1")
    resumed = {**killed[0], "t": killed[-1]["t"] + 500, "resumed": True}
    summary = fold([*killed, resumed])
    states = {stage.name: stage.status for stage in summary.stages}
    assert states["collect-1"] is StageStatus.FINISHED
    assert states["value-1"] is StageStatus.WAITING
    assert list(states) == list(WORKS)


def test_a_curve_that_resumes_from_a_checkpoint_replaces_the_updates_it_repeats() -> None:
    def metrics(t: float, update: int, value: float) -> dict[str, Any]:
        return event(t, events.TRAIN_METRICS, stage="sft-0", update=update, metrics={"train/loss": value})

    summary = fold([metrics(1, 10, 3.0), metrics(2, 20, 2.0), metrics(3, 30, 1.0), metrics(4, 20, 2.5)])
    assert summary.curves[0].points == ((10, 3.0), (20, 2.5))


def test_long_runs_keep_bounded_curves_and_logs() -> None:
    state = RunFold()
    for update in range(5 * CURVE_POINTS):
        state.update(event(update, events.TRAIN_METRICS, stage="sft-0", update=update, metrics={"train/loss": 1.0}))
        state.update(event(update, events.NOTE, level="info", text=str(update)))
    summary = state.summary()
    points = summary.curves[0].points
    assert len(points) <= CURVE_POINTS
    assert (points[0][0], points[-1][0]) == (0, 5 * CURVE_POINTS - 1)
    assert len(summary.log) == LOG_LINES


def test_the_estimate_uses_the_rate_of_this_attempt_then_siblings_then_the_plan() -> None:
    run = [
        started("collect-1", "collect-2", "gate-2", "final-2", expected_s={"gate-2": 70.0}),
        event(0, events.STAGE_STARTED, stage="collect-1", iteration=1),
        event(40, events.STAGE_FINISHED, stage="collect-1", iteration=1, seconds=40.0, is_reused=False, summary={}),
        event(40, events.STAGE_STARTED, stage="collect-2", iteration=2),
    ]
    assert fold(run).eta(START_T + 50) == Eta(seconds=30.0 + 70.0, num_unknown=1)
    resumed_at = [
        event(50 + 2 * i, events.STAGE_PROGRESS, stage="collect-2", iteration=2, done=30 + i, total=60, unit="")
        for i in (0, 10)
    ]
    assert fold([*run, *resumed_at]).eta(START_T + 70) == Eta(seconds=40.0 + 70.0, num_unknown=1)


@pytest.mark.parametrize(
    ("echoes", "phase", "pending"),
    [
        ([(control.PAUSE, "received")], RunPhase.RUNNING, (control.PAUSE,)),
        ([(control.PAUSE, "received"), (control.PAUSE, "done")], RunPhase.PAUSED, ()),
        ([(control.PAUSE, "done"), (control.RESUME, "done")], RunPhase.RUNNING, ()),
        ([(control.PAUSE, "received"), (control.PAUSE, "refused")], RunPhase.RUNNING, ()),
        ([(control.STOP, "received"), (control.STOP, "done")], RunPhase.RUNNING, (control.STOP,)),
    ],
)
def test_commands_take_effect_when_the_run_says_so(
    echoes: list[tuple[str, str]], phase: RunPhase, pending: tuple[str, ...]
) -> None:
    summary = fold([started("sft-0"), *(command_event(START_T + 1, *echo) for echo in echoes)])
    assert (summary.phase, summary.pending) == (phase, pending)


def test_a_failed_run_names_its_stage_and_its_error() -> None:
    failed = event(9, events.RUN_FAILED, error="StorageError: the disk is full", cpu_seconds=3.0)
    summary = fold([started("sft-0"), event(1, events.STAGE_STARTED, stage="sft-0", iteration=0), failed])
    assert (summary.phase, summary.error) == (RunPhase.FAILED, "StorageError: the disk is full")
    assert summary.current is not None
    assert (summary.current.name, summary.current.status) == ("sft-0", StageStatus.FAILED)


def test_processor_time_adds_up_over_the_attempts_of_a_run() -> None:
    stopped = event(5, events.RUN_STOPPED, text="interrupted", cpu_seconds=60.0)
    finished = event(20, events.RUN_FINISHED, seconds=9.0, cpu_seconds=90.0)
    assert fold([started("sft-0"), stopped, started("sft-0"), finished]).cpu_seconds == 150.0


def test_unknown_kinds_are_left_to_newer_readers() -> None:
    assert fold([started("sft-0"), event(1, "battery", volts=11.1)]) == fold([started("sft-0")])


def test_names_durations_and_points_read_naturally() -> None:
    assert sorted(["s-10", "s-2", "s-1"], key=natural_order) == ["s-1", "s-2", "s-10"]
    assert [duration_text(s) for s in (59.4, 60, 3725)] == ["59 s", "1 min 00 s", "1 h 02 min"]
    assert thinned([(i, 0.0) for i in range(101)], 3) == [(0, 0.0), (50, 0.0), (100, 0.0)]
