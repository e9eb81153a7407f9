"""The light core: interfaces, episodes, sealed directories, events, control."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from opentau.checkpoint import building, is_complete, read_manifest
from opentau.control import Command, LocalRunClient, take_commands
from opentau.errors import CheckpointError, InterfaceMismatch, OptionError
from opentau.events import EventLog, EventReader
from opentau.types import Interface, derive_seed, require_same_interface

INTERFACE = Interface(
    cameras={"front": (64, 64, 3), "wrist": (64, 64, 3)},
    state_names=("x",),
    state_units=("m",),
    action_names=("dx",),
    action_units=("m",),
    action_space="delta_ee",
    control_hz=20.0,
)


def test_an_interface_survives_the_wire_and_its_hash_tells_changes() -> None:
    assert Interface.from_dict(json.loads(json.dumps(INTERFACE.to_dict()))) == INTERFACE
    changed = dataclasses.replace(INTERFACE, state_units=("rad",))
    assert changed.hash() != INTERFACE.hash()
    with pytest.raises(ValueError, match="keys"):
        Interface.from_dict({**INTERFACE.to_dict(), "surprise": 1})


def test_a_mismatch_shows_both_sides_and_further_cameras_are_none() -> None:
    policy = dataclasses.replace(INTERFACE, cameras={"front": (64, 64, 3)})
    require_same_interface(policy=policy, station=INTERFACE, station_id="s")
    with pytest.raises(InterfaceMismatch, match=r"control_hz: policy expects 20.0, station offers 30.0"):
        require_same_interface(policy=policy, station=dataclasses.replace(INTERFACE, control_hz=30.0), station_id="s")
    with pytest.raises(InterfaceMismatch, match="cameras"):
        require_same_interface(policy=INTERFACE, station=policy, station_id="s")


def test_seeds_depend_on_every_part_of_their_path() -> None:
    seeds = {
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, "a"),
        derive_seed(0, "a", 1),
        derive_seed(0, 1, "a"),
        derive_seed(0, "1"),
    }
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_directory_is_complete_only_after_its_block_ended_well(tmp_path: Path) -> None:
    target = tmp_path / "stage"
    with pytest.raises(RuntimeError), building(target, {}) as partial:
        (partial / "a").write_text("half")
        raise RuntimeError
    assert not is_complete(target)
    with pytest.raises(CheckpointError, match="not complete"):
        read_manifest(target)
    with building(target, {"content": {"n": 1}, "seconds": 3}) as partial:
        assert not (partial / "a").exists()
        (partial / "a").write_text("whole")
    assert read_manifest(target, verify=True)["seconds"] == 3


def test_times_are_no_part_of_a_content_id_but_bytes_and_content_are(tmp_path: Path) -> None:
    def made(name: str, *, text: str, content: int, seconds: int) -> str:
        with building(tmp_path / name, {"content": content, "seconds": seconds}) as partial:
            (partial / "a").write_text(text)
        return read_manifest(tmp_path / name)["id"]

    same = made("1", text="x", content=1, seconds=1)
    assert made("2", text="x", content=1, seconds=2) == same
    assert made("3", text="y", content=1, seconds=1) != same
    assert made("4", text="x", content=2, seconds=1) != same


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    with building(tmp_path / "c", {}) as partial:
        (partial / "weights").write_bytes(b"123456")
    (tmp_path / "c" / "weights").write_bytes(b"123")
    with pytest.raises(CheckpointError, match="weights is damaged"):
        read_manifest(tmp_path / "c", verify=True)


def test_a_reader_gets_every_event_once_and_leaves_a_torn_line_for_later(tmp_path: Path) -> None:
    reader = EventReader(tmp_path)
    with EventLog(tmp_path, "main") as log:
        log.emit("note", level="info", text="one")
        assert [event["text"] for event in reader.read_new()] == ["one"]
        path = next((tmp_path / "events").iterdir())
        with open(path, "a", encoding="utf-8") as file:
            file.write('{"t": 1, "kind": "no')
        assert reader.read_new() == []
        with open(path, "a", encoding="utf-8") as file:
            file.write('te", "text": "two"}\n')
        assert [event["text"] for event in reader.read_new()] == ["two"]


def test_commands_arrive_in_order_and_once(tmp_path: Path) -> None:
    client = LocalRunClient(tmp_path)
    for verb in ("pause", "resume", "stop"):
        client.send(Command(verb=verb))
    assert [command.verb for command in take_commands(tmp_path)] == ["pause", "resume", "stop"]
    assert take_commands(tmp_path) == []
    with pytest.raises(OptionError, match="'pause'"):
        Command(verb="pauze")
