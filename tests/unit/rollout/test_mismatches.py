"""A robot and a policy that do not fit: refused before any weights are read, with every difference shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from opentau.checkpoint import building
from opentau.cli.compose import compose_config
from opentau.cli.main import main
from opentau.errors import CheckpointError, InterfaceMismatch, OptionError
from opentau.events import EventLog
from opentau.loop.options import LoopOptions
from opentau.loop.serving import served_policy
from opentau.policies.weights import WEIGHTS_FILE, save_policy
from opentau.rollout.session import RolloutSession
from opentau.types import Interface, require_fit
from tests.fakes import ScriptedPolicy, counting_interface
from tests.unit.policies import parts
from tests.unit.rollout.sessions import options, plan
from tests.unit.rollout.test_stations_from_elsewhere import start

SAYS = "station offers"
MATRIX: list[tuple[str, dict[str, Any], str]] = [
    ("camera renamed", {"cameras": {"front": None, "wrist": None}}, rf"{SAYS} none of this name, but front, wrist"),
    ("image size", {"cameras": {"agentview": (9, 9, 3), "wrist": None}}, rf"cameras \(agentview\): .*{SAYS} \[9, 9, 3\]"),
    ("degrees", {"state_units": "deg"}, rf"state_units \(x\): policy expects m, {SAYS} deg"),
    ("radians", {"action_units": "rad"}, rf"action_units \(dx\): policy expects .*, {SAYS} rad"),
    ("absolute for delta", {"action_space": "absolute_ee"}, rf"action_space: policy expects delta_ee, {SAYS} absolute_ee"),
    ("another rate", {"control_hz": 30.0}, rf"control_hz: policy expects 20\.0, {SAYS} 30\.0"),
]
IDS = [name for name, _, _ in MATRIX]


def changed(interface: Interface, changes: dict[str, Any]) -> Interface:
    """Return the interface with changes; of units only the first dimension's, of cameras None keeps the shape."""
    changes = dict(changes)
    shape = next(iter(interface.cameras.values()))
    for key, value in changes.items():
        if key.endswith("_units"):
            changes[key] = (value, *getattr(interface, key)[1:])
        elif key == "cameras":
            changes[key] = {camera: given or shape for camera, given in value.items()}
    return dataclasses.replace(interface, **changes)


@pytest.mark.parametrize("changes", [case[1] for case in MATRIX], ids=IDS)
def test_a_station_that_does_not_fit_is_refused_at_the_handshake(changes):
    policy = ScriptedPolicy(interface=changed(counting_interface(), changes))
    with RolloutSession(options(num_stations=1), policies={"p": policy}) as session, pytest.raises(InterfaceMismatch) as caught:
        session.run([plan(0)])
    differing = {key.split(" ")[0] for key, _, _ in caught.value.rows}
    assert differing == set(changes)
    assert "station station-0-1 does not fit the policy" in str(caught.value)


def test_a_chunk_that_is_too_short_for_what_is_played_of_it_is_refused_before_anything_starts():
    with pytest.raises(OptionError, match=r"predicts 7 actions; execute_horizon \+ delay_ticks is 8"):
        RolloutSession(options(), policies={"p": ScriptedPolicy(action_horizon=7)})


class Normalising(ScriptedPolicy):
    statistics_id = "ab" * 32


def test_a_robot_that_was_calibrated_anew_is_not_moved_by_a_policy_of_the_old_statistics(tmp_path):
    with RolloutSession(options(num_stations=0), policies={"p": Normalising()}) as session:
        refused = start(session, tmp_path, "arm", statistics_id="cd" * 32)
        assert refused.wait(60) == 1
        fits = start(session, tmp_path, "other", statistics_id="ab" * 32)
        assert len(session.run([plan(0)])) == 1
    assert fits.wait(60) == 0
    said = (tmp_path / "arm.log").read_text()
    assert f"statistics id: policy expects {'ab' * 32}, station offers {'cd' * 32}" in said


def test_every_difference_is_shown_at_once():
    fit = {"policy": counting_interface(), "action_horizon": 8, "statistics_id": "a", "num_needed": 8, "station_id": "arm"}
    require_fit(**fit, station=counting_interface(), wanted_statistics="")
    other = changed(counting_interface(), {"action_space": "absolute_ee", "control_hz": 30.0})
    with pytest.raises(InterfaceMismatch) as caught:
        require_fit(**(fit | {"num_needed": 10}), station=other, wanted_statistics="b")
    assert len(caught.value.rows) == 4
    assert "execute_horizon + delay_ticks: policy expects at most 8, its action horizon, station offers 10" in str(caught.value)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A policy whose weights cannot be read: whoever tries raises `CheckpointError`."""
    directory, config = tmp_path / "policy", parts.nano_like()
    with building(directory, {}) as partial:
        save_policy(partial, model=parts.model(config), processor=parts.processor(config))
    (directory / WEIGHTS_FILE).write_bytes(b"no weights")
    return directory


def serve(checkpoint: Path, tmp_path: Path, interface: Interface, *overrides: str) -> None:
    config = LoopOptions.from_config(compose_config("loop", ["env=tabletop", *overrides]))
    with EventLog(tmp_path, "main") as log, served_policy(checkpoint, config, interface=interface, log=log, log_dir=tmp_path):
        raise AssertionError("what has no weights cannot be served")


@pytest.mark.parametrize(("changes", "row"), [case[1:] for case in MATRIX], ids=IDS)
def test_a_checkpoint_that_does_not_fit_is_refused_before_its_weights_are_read(checkpoint, tmp_path, changes, row):
    with pytest.raises(InterfaceMismatch, match=row):
        serve(checkpoint, tmp_path, changed(parts.interface(), changes), "rollout.execute_horizon=8")


def test_a_checkpoint_of_too_short_chunks_is_refused_before_its_weights_are_read(checkpoint, tmp_path):
    with pytest.raises(InterfaceMismatch, match="at most 8, its action horizon, station offers 10"):
        serve(checkpoint, tmp_path, parts.interface(), "rollout.execute_horizon=7", "rollout.delay_ticks=3")


def test_a_checkpoint_whose_statistics_are_not_those_it_names_is_refused_before_its_weights_are_read(checkpoint, tmp_path):
    path = checkpoint / "embodiments.json"
    text = path.read_text()
    named = parts.processor(parts.nano_like()).embodiment.statistics_id
    assert named in text
    path.write_text(text.replace(named, "0" * 64))
    with pytest.raises(CheckpointError, match=f"names the statistics {'0' * 12}, its numbers are {named[:12]}"):
        serve(checkpoint, tmp_path, parts.interface(), "rollout.execute_horizon=8")


def test_a_checkpoint_that_fits_has_its_weights_read(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=WEIGHTS_FILE):
        serve(checkpoint, tmp_path, parts.interface(), "rollout.execute_horizon=8")


@pytest.mark.parametrize("command", ["eval", "serve"])
def test_the_commands_show_the_differences_instead_of_loading(checkpoint, command, capsys):
    assert main([command, str(checkpoint), "env=tabletop", "--episodes", "1"]) == 2
    said = capsys.readouterr().err
    assert "does not fit the policy" in said
    assert "state_names: policy expects ['x', 'y', 'z'], station offers" in said
