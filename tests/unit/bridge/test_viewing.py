"""Following and steering over the network: events exactly once, commands once and under a lease, viewers only read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from opentau.control import INBOX_FOLDER, LIVE_FOLDER, PAUSE, RESUME, STOP, Command, take_commands
from opentau.errors import LeaseError, LinkError
from opentau.events import AUDIT, NOTE, EventLog, EventReader
from opentau.lease import LEASE_S, Lease
from opentau.rollout.desk import StationDesk
from robot_bridge.security.audit import Audit
from robot_bridge.security.keys import ClientCredentials, make_pair
from robot_bridge.security.trust import TrustList
from robot_bridge.viewing.client import RemoteRunClient
from robot_bridge.viewing.desk import SESSION, CommandDesk, viewing
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import LeaseRequest, Order, Shown
from tests.unit.bridge.links import Events

Connect = Callable[..., RemoteRunClient]


@pytest.fixture
def log(tmp_path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "run", "main") as log:
        yield log


@pytest.fixture
def connect(tmp_path, log, monkeypatch) -> Iterator[Connect]:
    monkeypatch.setenv("OPENTAU_KEYS", str(tmp_path / "keys"))
    server, trusted, clients = make_pair("server"), TrustList(tmp_path / "keys"), []
    with viewing(tmp_path / "run", host="127.0.0.1", port=0, log=log, pair=server) as endpoint:

        def connected(name: str, role: str, *, answer_s: float = 5.0) -> RemoteRunClient:
            pair = make_pair(name)
            trusted.trust(name, pair.public, role)
            credentials = ClientCredentials(pair=pair, server_public=server.public)
            clients.append(RemoteRunClient(endpoint, credentials=credentials, answer_s=answer_s))
            return clients[-1]

        yield connected
        for client in clients:
            client.__exit__(LinkError, None, None)


def audits(run_dir) -> list[dict]:
    return [event for event in EventReader(run_dir).read_new() if event["kind"] == AUDIT]


def test_a_viewer_gets_every_event_once(connect, log):
    viewer = connect("screen", "viewer")
    log.emit(NOTE, level="info", text="one")
    assert [event["text"] for event in viewer.new_events()] == ["one"]
    for number in range(3000):
        log.emit(NOTE, level="info", text=f"{number} " + "x" * 1000)
    assert [event["text"].split()[0] for event in viewer.new_events()] == [str(number) for number in range(3000)]
    assert viewer.new_events() == []


def test_a_viewer_may_not_steer_and_the_attempt_is_audited(connect, tmp_path):
    viewer = connect("screen", "viewer")
    for verb in (PAUSE, STOP):
        with pytest.raises(LeaseError, match="trusted as operator"):
            viewer.send(Command(verb=verb))
    assert take_commands(tmp_path / "run") == []
    assert {(event["who"], event["state"]) for event in audits(tmp_path / "run")} == {("screen", "refused")}


def test_an_operator_s_command_arrives_once_however_often_it_is_sent(connect, tmp_path):
    operator, command = connect("desk", "operator"), Command(verb=PAUSE, command_id="c1")
    operator.send(command)
    operator.send(command)
    assert take_commands(tmp_path / "run") == [dataclasses.replace(command, operator="desk")]
    assert [event["state"] for event in audits(tmp_path / "run")] == ["accepted", "refused"]


def test_one_operator_steers_at_a_time_but_anyone_may_stop(connect, tmp_path):
    first, second = connect("first", "operator"), connect("second", "operator")
    first.send(Command(verb=PAUSE))
    with pytest.raises(LeaseError, match="first steers this run"):
        second.send(Command(verb=RESUME))
    second.send(Command(verb=STOP))
    assert [command.verb for command in take_commands(tmp_path / "run")] == [PAUSE, STOP]


def test_a_robot_s_key_does_not_open_a_run(connect, tmp_path):
    robot = connect("arm", "robot", answer_s=0.3)
    with pytest.raises(LinkError, match="has not answered"):
        robot.new_events()
    assert audits(tmp_path / "run")[0]["who"] == "arm"


def test_a_position_beyond_the_log_is_refused_and_others_are_served(connect, log, tmp_path):
    viewer, operator = connect("screen", "viewer", answer_s=0.5), connect("desk", "operator")
    log.emit(NOTE, level="info", text="one")
    viewer._positions = {path.name: (1 << 63) - 1 for path in (tmp_path / "run" / "events").glob("*.jsonl")}
    with pytest.raises(LinkError, match="has not answered"):
        viewer.new_events()
    operator.send(Command(verb=STOP))
    assert [command.verb for command in take_commands(tmp_path / "run")] == [STOP]
    assert any("it asks for" in event["why"] for event in audits(tmp_path / "run"))


def test_a_viewer_sees_what_a_station_shows_whoever_has_it_in_hand(connect, tmp_path):
    desk = StationDesk(session="s", steer=no_steer, emit=no_event, live_dir=tmp_path / "run" / LIVE_FOLDER)
    image = CodedImage.of(np.full((24, 32, 3), 200, np.uint8))
    state = np.array([0.5, -0.25], np.float32)
    desk.shown(
        "station-0-1", Shown(session="s", episode_id="collect-1/000003", tick=7), {"images.wrist": image, "state": state}
    )
    viewer = connect("screen", "viewer", answer_s=1.0)
    episode_id, tick, pictures, told = viewer.look("station-0-1")
    assert (episode_id, tick, told) == ("collect-1/000003", 7, (0.5, -0.25))
    assert set(pictures) == {"wrist"}
    np.testing.assert_array_equal(pictures["wrist"], image.pixels())
    assert viewer.look("station-1-1") is None
    with pytest.raises(LinkError, match="has not answered"):
        viewer.look("../events")
    assert "no station's name" in audits(tmp_path / "run")[-1]["why"]


def no_steer(station_id: str, message: object) -> None:
    raise AssertionError("nobody steers here")


def no_event(kind: str, **facts: object) -> None:
    raise AssertionError("nothing happens here")


def test_a_command_that_could_not_be_written_is_no_command_and_may_come_again(connect, tmp_path):
    operator, inbox = connect("desk", "operator"), tmp_path / "run" / INBOX_FOLDER
    inbox.write_text("in the way")
    with pytest.raises(LeaseError, match="could not be written"):
        operator.send(Command(verb=STOP, command_id="c1"))
    inbox.unlink()
    operator.send(Command(verb=STOP, command_id="c1"))
    assert [command.command_id for command in take_commands(tmp_path / "run")] == ["c1"]


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def desk(tmp_path, clock) -> tuple[CommandDesk, Events]:
    events = Events()
    lease = Lease(tmp_path, now=lambda: clock[0])
    return CommandDesk(tmp_path, audit=Audit(events.emit), lease=lease), events


def order(command_id: str, lease_id: str, verb: str = PAUSE, **args: int) -> Order:
    return Order(session=SESSION, command_id=command_id, verb=verb, args=args, lease_id=lease_id)


def lease_of(desk: CommandDesk, who: str) -> str:
    return desk.change_lease(who, "operator", LeaseRequest(session=SESSION, seq=1, action="acquire")).lease_id


def test_an_expired_lease_is_refused_and_audited(desk, clock):
    desk, events = desk
    lease_id = lease_of(desk, "a")
    clock[0] += LEASE_S - 1
    assert desk.order("a", "operator", order("1", lease_id)).is_accepted
    clock[0] += 2
    answer = desk.order("a", "operator", order("2", lease_id))
    assert not answer.is_accepted
    assert "expired" in answer.text
    assert events.seen[-1]["state"] == "refused"
    assert "expired" in events.seen[-1]["why"]


def test_a_foreign_lease_is_refused_and_audited(desk):
    desk, events = desk
    lease_id = lease_of(desk, "a")
    assert "another operator's" in desk.order("b", "operator", order("1", lease_id)).text
    assert (events.seen[-1]["who"], events.seen[-1]["state"]) == ("b", "refused")


def test_a_renewed_lease_lasts_and_a_released_one_is_free(desk, clock):
    desk, _ = desk
    lease_id = lease_of(desk, "a")
    clock[0] += LEASE_S - 1
    desk.change_lease("a", "operator", LeaseRequest(session=SESSION, seq=1, action="renew", lease_id=lease_id))
    clock[0] += LEASE_S - 1
    assert lease_of(desk, "b") == ""
    desk.change_lease("a", "operator", LeaseRequest(session=SESSION, seq=1, action="release", lease_id=lease_id))
    assert lease_of(desk, "b") != ""


def test_a_command_replayed_after_the_server_started_again_is_refused(tmp_path):
    with EventLog(tmp_path, "main") as log:
        first = CommandDesk(tmp_path, audit=Audit(log.emit))
        assert first.order("a", "operator", order("1", "", verb=STOP)).is_accepted
        again = CommandDesk(tmp_path, audit=Audit(log.emit))
        assert again.order("a", "operator", order("1", "", verb=STOP)).is_repeated
        assert len(take_commands(tmp_path)) == 1


def test_a_gate_is_overridden_for_a_named_iteration_only(desk, tmp_path):
    desk, _ = desk
    lease_id = lease_of(desk, "a")
    assert "promote needs iteration" in desk.order("a", "operator", order("1", lease_id, verb="promote")).text
    assert desk.order("a", "operator", order("2", lease_id, verb="promote", iteration=1)).is_accepted


def test_a_flood_of_commands_is_bounded(desk, tmp_path):
    desk, _ = desk
    started = time.monotonic()
    accepted = sum(desk.order("a", "operator", order(str(i), "", verb=STOP)).is_accepted for i in range(200))
    assert accepted <= 21 + (time.monotonic() - started)
