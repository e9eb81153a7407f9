"""What people ask of a run: obeyed once, told as events, and numbered by the iteration from which it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentau import control
from opentau.cli.runs import superfluous
from opentau.control import Command, LocalRunClient, post
from opentau.errors import LeaseError, OptionError
from opentau.events import COMMAND, LEASE, NOTE, EventReader
from opentau.lease import Lease
from opentau.loop.decisions import Decisions
from opentau.loop.run import Run, obey_at_rest, open_run
from opentau.runfold import fold


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with opened(tmp_path) as run:
        yield run


def opened(directory: Path):
    return open_run(directory, config={}, command="test", expected_s={})


def make(run: Run, stage: str, *, iteration: int = 0) -> None:
    run.stage(stage, iteration=iteration, inputs={}, work=lambda work: None)


def started(run: Run, *, iterations: int = 3) -> None:
    """Begin a run whose options are of no consequence."""
    run.steering.last_iteration, run.steering.check_options = iterations, lambda changes: None
    make(run, "demonstrations-0")


def ask(run: Run, verb: str, *, command_id: str = "", **args) -> dict:
    """Send a command and return the event that tells its fate."""
    command = Command(verb=verb, args=args, **({"command_id": command_id} if command_id else {}))
    post(run.directory, command, operator="anna")
    run.obey_commands()
    told = [event for event in EventReader(run.directory).read_new() if event["kind"] == COMMAND]
    assert told[-1]["command_id"] == command.command_id
    assert told[-1]["operator"] == "anna"
    return told[-1]


def test_an_option_changes_from_the_next_iteration_on_and_a_resumed_run_has_it_there(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        started(run)
        run.begin_iteration(1)
        told = ask(run, control.SET, option="collect.episodes", value=80)
        assert (told["state"], told["iteration"]) == ("done", 2)
        assert run.begin_iteration(2).options == {"collect.episodes": 80}
    with opened(tmp_path) as run:
        assert [dict(run.begin_iteration(number).options) for number in (1, 2, 3)] == [
            {}, {"collect.episodes": 80}, {"collect.episodes": 80}
        ]  # fmt: skip
    assert [(c.option, c.value, c.iteration) for c in fold(EventReader(tmp_path).read_new()).changes] == [
        ("collect.episodes", 80, 2)
    ]


def test_what_waits_for_a_resumed_run_counts_from_where_it_had_been(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        started(run)
        run.begin_iteration(1)
        make(run, "collect-1", iteration=1)
    LocalRunClient(tmp_path).send(Command(verb=control.ROLLBACK, args={"iteration": 1}))
    LocalRunClient(tmp_path).send(Command(verb=control.SET, args={"option": "collect.episodes", "value": 80}))
    with opened(tmp_path) as run:
        started(run)
        run.begin_iteration(1)
        make(run, "collect-1", iteration=1)
        run.begin_iteration(2)
        assert Decisions(tmp_path).options(3) == {}, "nothing new was done yet"
        make(run, "collect-2", iteration=2)
        assert Decisions(tmp_path).options(2) == {}
        assert run.begin_iteration(3).options == {"collect.episodes": 80}
        assert Decisions(tmp_path).after_gates(3) == [(False, 1)]
        assert Decisions(tmp_path).of_gate(1) is None


def test_a_gate_is_decided_with_its_verdict_or_from_the_next_iteration_on(run: Run) -> None:
    started(run)
    run.begin_iteration(1)
    assert ask(run, control.PROMOTE, iteration=1)["text"] == "with the verdict of gate 1"
    assert run.gate_override(1) is True
    run.begin_iteration(2)
    assert ask(run, control.ROLLBACK, iteration=1)["text"] == "from iteration 3 on"
    assert run.gate_override(1) is True, "what gate 1 said stays what it was"
    assert run.begin_iteration(3).after_gates == [(False, 1)]
    assert "iterations 1 to 3" in ask(run, control.PROMOTE, iteration=4)["text"]
    run.begin_iteration(4)
    assert "start the same command again" in ask(run, control.ROLLBACK, iteration=3)["text"]


def test_after_the_last_gate_a_resumed_run_still_takes_a_rollback(tmp_path: Path) -> None:
    LocalRunClient(tmp_path).send(Command(verb=control.ROLLBACK, args={"iteration": 1}))
    with opened(tmp_path) as run:
        run.steering.last_iteration = 1
        run.begin_iteration(1)
        assert run.gate_override(1) is None
        assert run.begin_iteration(2).after_gates == [(False, 1)]


def test_labels_hold_for_the_next_learning_and_can_be_taken_back(run: Run) -> None:
    started(run)
    run.begin_iteration(1)
    make(run, "collect-1", iteration=1)
    stage = run.products["collect-1"].path.name
    for target, outcome in (("collect-1/000003", "success"), ("collect-1/000004", "discard"), ("collect-1/000003", "unknown")):
        assert ask(run, control.LABEL, target=target, outcome=outcome)["episode_id"] == target
    assert run.begin_learning(1) == {stage: {"collect-1/000004": "discard"}}
    assert "iteration 2" in ask(run, control.LABEL, target="collect-1/000005", outcome="failure")["text"]
    assert run.begin_learning(1) == {stage: {"collect-1/000004": "discard"}}, "what iteration 1 learned from stays"
    assert set(run.begin_learning(2)[stage]) == {"collect-1/000004", "collect-1/000005"}
    assert dict(fold(EventReader(run.directory).read_new()).labels) == {
        "collect-1/000004": "discard", "collect-1/000005": "failure"
    }  # fmt: skip
    for target, why in (("gate-1/000000", "scored"), ("collect-7/000000", "not recorded"), ("station-9", "no episode")):
        told = ask(run, control.LABEL, target=target, outcome="success")
        assert told["state"] == "refused"
        assert why in told["text"]


def test_a_command_of_the_same_id_is_done_once_also_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        started(run)
        states = [ask(run, control.NOTE_DOWN, text="hello", command_id="c1")["state"] for _ in range(2)]
    with opened(tmp_path) as run:
        states.append(ask(run, control.NOTE_DOWN, text="hello", command_id="c1")["state"])
    assert states == ["done", "repeated", "repeated"]
    notes = [event["text"] for event in EventReader(tmp_path).read_new() if event["kind"] == NOTE]
    assert notes == ["anna: hello"]


def test_a_pinned_stage_is_not_pruned_and_pinning_needs_no_running_run(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        make(run, "update-1")
        old = run.products["update-1"].path
    with opened(tmp_path) as run:
        run.stage("update-1", iteration=1, inputs={"changed": 1}, work=lambda work: None)
        ask(run, control.PIN, stage="update-1")
    new = next(path for path in old.parent.iterdir() if path != old)
    assert superfluous(tmp_path) == [old]
    (tmp_path / "state.json").write_text(json.dumps({"stages": {}}))
    assert superfluous(tmp_path) == [old]
    LocalRunClient(tmp_path).send(Command(verb=control.UNPIN, args={"stage": "update-1"}))
    LocalRunClient(tmp_path).send(Command(verb=control.PAUSE))
    obey_at_rest(tmp_path)
    assert sorted(superfluous(tmp_path)) == sorted([old, new])
    assert [command.verb for command in control.take_commands(tmp_path)] == ["pause"], "a pause waits for the next run"


def test_station_commands_without_stations_and_files_that_are_no_commands_are_refused(run: Run) -> None:
    make(run, "sft-0")
    assert "no station plays now" in ask(run, control.TAKE_OVER, station="station-0-1")["text"]
    (run.directory / control.INBOX_FOLDER / "0-bad.json").write_text('{"verb": "dance"}')
    run.obey_commands()
    told = EventReader(run.directory).read_new()[-1]
    assert (told["kind"], told["level"]) == (NOTE, "warning")
    assert "unknown command 'dance'" in told["text"]


def test_two_operators_see_who_holds_the_lease(tmp_path: Path) -> None:
    clock = [100.0]
    anna, bert = (LocalRunClient(tmp_path, operator=name) for name in ("anna", "bert"))
    with opened(tmp_path) as run:
        anna.send(Command(verb=control.PIN, args={"stage": "sft-0"}))
        with pytest.raises(LeaseError, match="anna steers this run"):
            bert.send(Command(verb=control.RESUME))
        bert.send(Command(verb=control.STOP))
        run.obey_commands()
        assert fold(EventReader(tmp_path).read_new()).operator == "anna"
        anna.release()
        run.obey_commands()
        bert.send(Command(verb=control.RESUME))
        run.obey_commands()
        assert fold(EventReader(tmp_path).read_new()).operator == "bert"
    lease = Lease(tmp_path / "other", lease_s=2.0, now=lambda: clock[0])
    held = lease.acquire("anna")
    clock[0] += 1.5
    lease.renew("anna", held)
    clock[0] += 2.5
    with pytest.raises(LeaseError, match="expired"):
        lease.renew("anna", held)
    lease.acquire("bert")
    clock[0] = 5.0  # the machine started anew
    assert lease.held().holder == ""
    assert [event["operator"] for event in EventReader(tmp_path).read_new() if event["kind"] == LEASE] == ["anna", "", "bert"]


@pytest.mark.parametrize(
    ("verb", "args", "told"),
    [
        ("set", {"option": "gate.levels", "value": 1}, "collect.episodes"),
        ("set", {"option": "collect.episodes", "value": 0.5}, "must be of type int"),
        ("set", {"option": "collect.supervised_share", "value": 0.7}, "between 0 and 0.5"),
        ("jog", {"station": "s", "dx": 2.0}, "between -1 and 1"),
        ("jog", {"dx": 1.0}, "needs station"),
        ("label", {"target": "collect-1/000000", "outcome": "sucess"}, "Did you mean 'success'"),
        ("pause", {"station": "s"}, "It takes none"),
        ("note", {"text": " "}, "is empty"),
    ],
)
def test_wrong_arguments_are_refused_at_the_border_with_the_fix(verb: str, args: dict, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        Command(verb=verb, args=args)
