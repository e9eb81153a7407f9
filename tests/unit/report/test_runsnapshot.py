"""A snapshot is the fold itself: reading that begins there ends where reading from the first event ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentau import events, runsnapshot
from opentau.control import LocalRunClient
from opentau.events import EventLog, EventReader
from opentau.runfold import COUNTED_EPISODES, EPISODES, RunFold, fold
from opentau.runsnapshot import RunFollower, fold_run, is_snapshot_due, read_snapshot
from tests.tui.screen_driver import record
from tests.tui.states import told_events


def test_a_decoded_fold_goes_on_as_the_one_it_was_made_of() -> None:
    run, state = told_events(), RunFold()
    for number, event in enumerate(run):
        state.update(event)
        if number % 97 == 0:
            state = RunFold.decoded(state.encoded())
    assert state.summary() == fold(run)


@pytest.mark.parametrize("split", [1, 500, 1200])
def test_a_reader_that_begins_at_a_snapshot_ends_like_one_that_reads_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: int
) -> None:
    monkeypatch.setattr(runsnapshot, "BYTES_BETWEEN", 1)
    run = told_events()
    record(tmp_path, run[:split])
    assert fold_run(tmp_path) == fold(run[:split])
    snapshot = read_snapshot(tmp_path)
    assert snapshot is not None
    record(tmp_path, run[split:])
    follower = RunFollower(LocalRunClient(tmp_path))
    assert follower.summary() == fold(run[:split])
    assert follower.catch_up() == fold(run)
    assert follower.share_read == 1.0


def test_short_runs_are_left_without_a_snapshot(tmp_path: Path) -> None:
    record(tmp_path, told_events())
    fold_run(tmp_path)
    assert read_snapshot(tmp_path) is None
    assert not is_snapshot_due(tmp_path)


def test_a_snapshot_of_another_log_or_program_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runsnapshot, "BYTES_BETWEEN", 1)
    record(tmp_path, told_events())
    fold_run(tmp_path)
    monkeypatch.setattr(runsnapshot, "FOLD_VERSION", 2)
    assert read_snapshot(tmp_path) is None
    monkeypatch.undo()
    assert read_snapshot(tmp_path) is not None
    log = next((tmp_path / "events").glob("*.jsonl"))
    log.write_bytes(log.read_bytes()[:1000])
    assert read_snapshot(tmp_path) is None
    (tmp_path / "events" / runsnapshot.SNAPSHOT_FILE).write_bytes(b"rubbish")
    assert read_snapshot(tmp_path) is None


def test_whoever_may_only_read_follows_without_leaving_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runsnapshot, "BYTES_BETWEEN", 1)
    record(tmp_path, told_events())

    def refuse(*_: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(runsnapshot.os, "replace", refuse)
    assert fold_run(tmp_path) == fold(told_events())
    assert [path.name for path in (tmp_path / "events").iterdir()] == ["main-1.jsonl"]


def test_events_of_several_processes_come_in_the_order_of_their_times_a_block_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BLOCK_BYTES", 256)
    times = {"a": [1.0, 4.0, 5.0, 9.0], "b": [0.5, 2.0, 8.0, 8.5], "c": [3.0]}
    for process, moments in times.items():
        clock = iter(moments)
        with EventLog(tmp_path, process, now=lambda clock=clock: next(clock)) as log:
            for _ in moments:
                log.emit(events.NOTE, level="info", text="x" * 200)
    reader = EventReader(tmp_path)
    assert [event["t"] for event in reader.stream()] == sorted(t for moments in times.values() for t in moments)
    assert reader.read_new() == []
    client = LocalRunClient(tmp_path)
    assert [len(client.new_events(4)) for _ in range(4)] == [4, 4, 1, 0]


def test_damaged_lines_and_events_are_counted_told_and_left_out(tmp_path: Path) -> None:
    run = told_events(until="collect-1")
    record(tmp_path, run)
    with open(tmp_path / "events" / "main-1.jsonl", "ab") as file:
        file.write(b'{"t": 1, "kind": "no\n\xff\xfe\n[]\n{"t": "soon", "kind": "note"}\n')
        file.write(json.dumps({"t": run[-1]["t"], "kind": events.EVALUATED, "iteration": 1}).encode() + b"\n")
        file.write(json.dumps({"t": run[-1]["t"], "kind": events.LABELLED, "iteration": 1, "edges": "x"}).encode() + b"\n")
        file.write(b'{"t": NaN, "kind": "from_the_future"}\n')
    summary = fold_run(tmp_path)
    assert summary.num_damaged == 6
    assert summary.scores == fold(run).scores
    assert summary.stages == fold(run).stages
    assert "a damaged event 'evaluated' was left out" in summary.log[-2].text


def test_a_long_stage_is_held_in_bounded_memory() -> None:
    state = RunFold()
    many = COUNTED_EPISODES + 10
    for number in range(many):
        state.update(
            {
                **{"t": float(number), "process": "main", "kind": events.EPISODE_FINISHED, "stage": "collect-1"},
                **{"episode_id": f"{number:09d}", "outcome": "success", "num_steps": 1, "num_intervention_steps": 0},
                "station": "station-0",
            }
        )
    summary = state.summary()
    assert summary.tallies["collect-1"].num_episodes == many
    assert len(summary.episodes) == EPISODES
    assert len(state._played["collect-1"]) == COUNTED_EPISODES
    state.update(
        {
            "t": 1e9,
            "seconds": 1.0,
            "kind": events.STAGE_FINISHED,
            "stage": "collect-1",
            "is_reused": False,
            "summary": {},
        }
    )
    assert "collect-1" not in state._played
    assert state.summary().tallies["collect-1"].num_episodes == many


def test_a_stage_that_is_done_again_is_counted_anew() -> None:
    def episode(t: float, number: int) -> dict[str, object]:
        ids = {"stage": "collect-1", "episode_id": f"{number}", "station": "s", "outcome": "success"}
        return {"t": t, "kind": events.EPISODE_FINISHED, **ids, "num_steps": 5, "num_intervention_steps": 0}

    stage = {"kind": events.STAGE_FINISHED, "stage": "collect-1", "seconds": 1.0, "is_reused": False, "summary": {}}
    run = [episode(1, 0), episode(2, 1), {**stage, "t": 3.0}, episode(4, 0)]
    assert fold(run).tallies["collect-1"].num_episodes == 1
