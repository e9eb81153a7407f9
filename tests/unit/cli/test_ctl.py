"""`opentau ctl`: a twin of every command, each with a help that teaches."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from opentau.cli.main import main
from opentau.control import VERBS, Command, take_commands
from opentau.events import NOTE, EventLog, EventReader

ARGS = {
    "promote": {"iteration": 2},
    "rollback": {"iteration": 2},
    "pin": {"stage": "update-1"},
    "unpin": {"stage": "update-1"},
    "set": {"option": "collect.episodes", "value": 80},
    "label": {"target": "collect-1/000003", "outcome": "discard"},
    "note": {"text": "the light changed"},
    "take_over": {"station": "station-0-1"},
    "jog": {"station": "station-0-1", "dx": -0.5, "gripper": 1.0, "ticks": 5},
    "hand_back": {"station": "station-0-1"},
    "stop_robot": {"station": "station-0-1"},
    "clear": {"station": "station-0-1"},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    with EventLog(tmp_path / "r", "main") as log:
        log.emit(NOTE, level="info", text="hello")
    return tmp_path / "r"


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"pin", "unpin", "note"}))
def test_the_twin_of_a_command_sends_exactly_that_command(verb: str, run: Path) -> None:
    command = Command(verb=verb, args=ARGS.get(verb, {}))
    words = shlex.split(command.twin("r"))
    assert words[:2] == ["opentau", "ctl"]
    assert main([*words[1:], "--no-wait"]) == 0
    (sent,) = take_commands(run)
    assert (sent.verb, sent.args) == (verb, command.args)
    assert sent.operator


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_help_of_a_command_says_what_it_does_and_when(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["ctl", verb, "--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Takes effect {VERBS[verb].when}" in shown
    assert ("Needs no lease" in shown) is not VERBS[verb].needs_lease


def test_an_option_that_is_not_safe_is_refused_with_those_that_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "set", "gate.veto_level=1", "r"]) == 2
    told = capsys.readouterr().err
    assert "collect.episodes" in told
    assert take_commands(run) == []


def test_a_note_reaches_a_run_that_has_ended(run: Path) -> None:
    assert main(["ctl", "note", "the light changed", "r", "--as", "anna"]) == 0
    assert EventReader(run).read_new()[-2]["text"] == "anna: the light changed"
