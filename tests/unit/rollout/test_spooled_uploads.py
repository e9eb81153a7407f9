"""Episodes from a spool: once each, whatever is killed in the middle."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from opentau.rollout.intake import CREDIT_BYTES
from opentau.rollout.schedule import PlanQueue
from opentau.rollout.server import Connected, ControlServer, Finished
from robot_bridge.config import StationConfig
from robot_bridge.wire.link import Plane, bind, dial, receive, receive_from, send, send_to, wait
from robot_bridge.wire.messages import (
    ANY_SESSION,
    AnyMessage,
    Assign,
    EpisodeMeta,
    Heartbeat,
    Hello,
    Shard,
    ShardAck,
    UploadAck,
    Welcome,
    decode,
    encode,
)
from robot_bridge.wire.payloads import PlayedEpisode, upload_of
from robot_bridge.wire.spool import packed
from tests.fakes import COUNTING_EXPERT, counting_env, counting_interface
from tests.unit.bridge.test_episode_player import play
from tests.unit.rollout.sessions import plan

NOWHERE = "tcp://127.0.0.1:9"
EXPERT = {"actor": "expert", "policy_id": ""}


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def server(context) -> Iterator[tuple[ControlServer, Callable[[str], zmq.Socket]]]:
    socket, endpoint = bind(context, Plane.CONTROL, host="127.0.0.1")
    server = ControlServer(socket, session="now", interfaces={}, station_silence_s=60.0, build_silence_s=60.0)
    server.start()
    yield server, lambda identity: dial(context, Plane.CONTROL, endpoint=endpoint, identity=identity)
    server.stop()
    server.join(5.0)
    assert not server.is_alive()


class SpooledFile:
    """The bytes of a played episode's file, and the messages that deliver them."""

    def __init__(self, played: PlayedEpisode) -> None:
        message, columns = upload_of(played, session="before")
        self.data = b"".join(bytes(part) for part in packed(encode(message, columns)))
        self.episode_id = played.result.plan.episode_id
        self.sha256 = hashlib.sha256(self.data).hexdigest()

    def meta(self, **changes: object) -> EpisodeMeta:
        plain = {"session": "now", "episode_id": self.episode_id, "num_bytes": len(self.data), "sha256": self.sha256}
        return EpisodeMeta(**(plain | changes))

    def shard(self, start: int, end: int | None = None) -> tuple[Shard, dict[str, np.ndarray]]:
        shard = Shard(session="now", episode_id=self.episode_id, sha256=self.sha256, offset=start)
        return shard, {"data": np.frombuffer(self.data[start:end], np.uint8)}


@pytest.fixture
def file() -> SpooledFile:
    return SpooledFile(play(plan(0)))


def submit(control: ControlServer, plans: PlanQueue) -> None:
    """Submit, and wait until the server's thread has read it."""
    control.submit(plans)
    time.sleep(0.1)


def ask(socket: zmq.Socket, message: AnyMessage, arrays: dict[str, np.ndarray] | None = None) -> AnyMessage:
    send(socket, Plane.CONTROL, message, arrays)
    assert wait(socket, timeout_s=5.0), "no answer"
    return receive(socket, Plane.CONTROL)[0]


def test_an_episode_arrives_in_pieces_goes_on_where_it_stopped_and_is_acknowledged_when_it_is_safe(server, file):
    control, dial_in = server
    submit(control, PlanQueue([plan(0)]))
    first = dial_in("arm")
    assert ask(first, file.meta()).offset == 0
    assert ask(first, *file.shard(0, 5_000)).offset == 5_000
    first.close(0)
    again = dial_in("arm")  # the link was lost: the same station dials again
    resumed = ask(again, file.meta())
    assert (resumed.offset, resumed.credit) == (5_000, CREDIT_BYTES)
    send(again, Plane.CONTROL, *file.shard(9_000, 9_100))  # not what comes next: ignored
    assert ask(again, *file.shard(5_000)).offset == len(file.data)
    finished = control.events.get(timeout=5.0)
    assert isinstance(finished, Finished)
    assert finished.played.episode.digest() == play(plan(0)).episode.digest()
    assert not wait(again, timeout_s=0.2), "acknowledged before it was safe"
    assert ask(again, file.meta()) == ShardAck(
        session="now", episode_id="e/0", sha256=file.sha256, offset=len(file.data), credit=CREDIT_BYTES
    )
    control.confirm("e/0")
    assert wait(again, timeout_s=5.0)
    assert receive(again, Plane.CONTROL)[0] == UploadAck(session="now", episode_id="e/0")
    assert ask(again, file.meta()) == UploadAck(session="now", episode_id="e/0")  # a second time: nothing is recorded
    assert control.events.empty()


def test_what_an_earlier_server_recorded_is_acknowledged_and_not_recorded_again(server, file):
    control, dial_in = server
    submit(control, PlanQueue([plan(1)], recorded=["e/0"]))
    station = dial_in("arm")
    assert ask(station, file.meta()) == UploadAck(session="now", episode_id="e/0")
    assert control.events.empty()


def test_an_episode_that_no_run_expects_stays_with_the_station(server, file):
    _, dial_in = server
    answer = ask(dial_in("arm"), file.meta())
    assert (answer.credit, answer.refusal) == (0, "")


@pytest.mark.parametrize(
    ("meta", "data", "text"),
    [
        ({"num_bytes": 1 << 40}, None, "the limit is"),
        ({"sha256": "0" * 64}, None, "its content is not what was announced"),
        ({"num_bytes": 10}, None, "brings more than the 10 bytes announced"),
        ({}, b"OTS1 but nothing else", "spooled episode"),
        ({"episode_id": "e/1"}, None, "it is no episode e/1"),
    ],
)
def test_what_is_not_as_announced_is_refused_and_the_server_goes_on(server, file, meta, data, text):
    control, dial_in = server
    submit(control, PlanQueue([plan(0), plan(1)]))
    station = dial_in("arm")
    if data is not None:
        file.data, file.sha256 = data, hashlib.sha256(data).hexdigest()
    file.episode_id = meta.get("episode_id", file.episode_id)
    file.sha256 = meta.get("sha256", file.sha256)
    answer = ask(station, file.meta(**meta))
    if not answer.refusal:
        answer = ask(station, *file.shard(0))
    assert text in answer.refusal
    assert control.events.empty()
    whole = SpooledFile(play(plan(0)))
    ask(station, whole.meta())
    ask(station, *whole.shard(0))
    assert isinstance(control.events.get(timeout=5.0), Finished)


def test_delivering_an_old_episode_does_not_touch_the_plan_that_the_station_plays(server, file):
    control, dial_in = server
    station = dial_in("arm")
    submit(control, PlanQueue([plan(1), plan(0)]))
    assert isinstance(ask(station, Hello(session="now", station_id="arm", interface=counting_interface())), Welcome)
    assert wait(station, timeout_s=5.0)
    assert receive(station, Plane.CONTROL)[0] == Assign(session="now", plan=plan(1))
    ask(station, file.meta())
    ask(station, *file.shard(0))
    control.confirm("e/0")
    assert [type(control.events.get(timeout=5.0)) for _ in range(2)] == [Connected, Finished]
    assert wait(station, timeout_s=5.0)
    assert isinstance(receive(station, Plane.CONTROL)[0], UploadAck)
    assert not wait(station, timeout_s=0.1), "a second plan was assigned beside the first"
    control.remove("arm")
    assert control.events.get(timeout=5.0).lost.plan == plan(1)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen]]:
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def start_station(folder: Path, endpoint: str, started: list[subprocess.Popen], **changes: object) -> subprocess.Popen:
    config = StationConfig(
        station_id="arm",
        control_endpoint=endpoint,
        env=counting_env(image_size=160),
        tasks={"counting/0": {"task_id": 0}},
        expert=COUNTING_EXPERT,
        heartbeat_s=0.2,
        server_silence_s=2.0,
        spool=str(folder / "spool"),
        reconnect_s=60.0,
        **({"session": "now", "inference_endpoint": NOWHERE} | changes),
    )
    config.save(folder / "arm.yaml")
    with open(folder / "arm.log", "ab") as log:
        command = [sys.executable, "-P", "-m", "robot_bridge.station", str(folder / "arm.yaml")]
        started.append(subprocess.Popen(command, stdout=log, stderr=log))
    return started[-1]


class ScriptedServer:
    """A server of the tests that stops in the middle of things."""

    def __init__(self, context: zmq.Context, *, port: int = 0) -> None:
        self._socket, self.endpoint = bind(context, Plane.CONTROL, host="127.0.0.1", port=port)
        self.port = int(self.endpoint.rpartition(":")[2])
        self.received = bytearray()

    def next(self, *kinds: type) -> tuple[AnyMessage, dict]:
        """Return the next message of a kind; answer signs of life and hellos."""
        deadline = time.monotonic() + 30.0
        while time.monotonic() < deadline:
            if not wait(self._socket, timeout_s=0.5):
                continue
            self._peer, frames = receive_from(self._socket)
            message, arrays = decode(frames, max_bytes=Plane.CONTROL.value.max_bytes)
            if isinstance(message, kinds):
                return message, arrays
            if isinstance(message, Heartbeat):
                self.answer(Heartbeat(session="now"))
            elif isinstance(message, Hello):
                self.answer(Welcome(session="now"))
        raise AssertionError(f"none of {kinds} came")

    def answer(self, message: AnyMessage) -> None:
        send_to(self._socket, self._peer, message)

    def take(self, meta: EpisodeMeta, *, until: int, credit: int = 1 << 20) -> None:
        """Take an episode's pieces up to so many bytes."""
        self._acknowledge(meta, credit)
        while len(self.received) < until:
            shard, arrays = self.next(Shard)
            assert shard.offset == len(self.received), "pieces come in order, without a gap or an overlap"
            self.received += arrays["data"].tobytes()
            self._acknowledge(meta, credit)

    def _acknowledge(self, meta: EpisodeMeta, credit: int) -> None:
        self.answer(
            ShardAck(
                session="now",
                episode_id=meta.episode_id,
                sha256=meta.sha256,
                offset=len(self.received),
                credit=credit,
            )
        )

    def close(self) -> None:
        self._socket.close(0)


def test_a_station_killed_in_the_middle_of_an_upload_goes_on_where_it_stopped(context, tmp_path, started):
    server = ScriptedServer(context)
    station = start_station(tmp_path, server.endpoint, started)
    server.next(Hello)
    server.answer(Welcome(session="now"))
    server.answer(Assign(session="now", plan=plan(0, **EXPERT)))
    meta, _ = server.next(EpisodeMeta)
    assert meta.num_bytes > 2 << 20
    server.take(meta, until=1)
    os.kill(station.pid, signal.SIGKILL)
    station.wait()
    start_station(tmp_path, server.endpoint, started)
    again, _ = server.next(EpisodeMeta)
    assert again == meta
    server.take(meta, until=meta.num_bytes)
    assert hashlib.sha256(server.received).hexdigest() == meta.sha256
    assert list((tmp_path / "spool").glob("*.episode")), "forgotten before it was acknowledged"
    server.answer(UploadAck(session="now", episode_id=meta.episode_id))
    server.answer(Assign(session="now", plan=plan(1, **EXPERT)))
    assert server.next(EpisodeMeta)[0].episode_id == "e/1"
    assert len(list((tmp_path / "spool").glob("*.episode"))) == 1
    server.close()


@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_a_server_that_comes_back_gets_what_it_lacks_and_credit_is_never_overdrawn(context, tmp_path, started, kept):
    server = ScriptedServer(context)
    start_station(tmp_path, server.endpoint, started)
    server.next(Hello)
    server.answer(Welcome(session="now"))
    server.answer(Assign(session="now", plan=plan(0, **EXPERT)))
    meta, _ = server.next(EpisodeMeta)
    server.take(meta, until=1 << 20)
    server.close()
    time.sleep(3.0)  # longer than the station believes in the server
    other = ScriptedServer(context, port=server.port)
    other.received = server.received[:kept]
    again, _ = other.next(EpisodeMeta)
    assert again == meta
    other.take(meta, until=meta.num_bytes)
    assert hashlib.sha256(other.received).hexdigest() == meta.sha256
    other.answer(UploadAck(session="now", episode_id=meta.episode_id))
    other.close()


@pytest.mark.parametrize(("wanted", "sessions"), [("now", ["now", "now"]), (ANY_SESSION, ["first", "second"])])
def test_a_server_killed_before_an_episode_is_safe_gets_it_again_and_records_each_once(tmp_path, started, wanted, sessions):
    def serve() -> subprocess.Popen:
        with open(tmp_path / "server.log", "ab") as log:
            command = [sys.executable, "-P", "-m", "tests.unit.rollout.recording_server", str(tmp_path), sessions.pop(0)]
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1]

    def recorded() -> list[str]:
        return sorted(path.name for path in tmp_path.glob("*.recorded"))

    (tmp_path / "hold").touch()
    server = serve()
    until(lambda: (tmp_path / "endpoints").is_file())
    control, inference = (tmp_path / "endpoints").read_text().split()
    station = start_station(tmp_path, control, started, inference_endpoint=inference, session=wanted)
    until(lambda: (tmp_path / "holding").exists())
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    assert recorded() == ["0.recorded"]
    assert list((tmp_path / "spool").glob("*.episode"))
    (tmp_path / "holding").unlink()
    (tmp_path / "hold").unlink()
    assert serve().wait(60) == 0
    assert recorded() == ["0.recorded", "1.recorded", "2.recorded"]
    assert sorted((tmp_path / "recordings").read_text().split()) == ["0", "1", "2"], "each episode is recorded once"
    assert station.wait(60) == 0
    assert not list((tmp_path / "spool").glob("*.episode"))


def test_a_spool_without_room_says_so_and_delivers_from_memory(tmp_path, started):
    with open(tmp_path / "server.log", "ab") as log:
        command = [sys.executable, "-P", "-m", "tests.unit.rollout.recording_server", str(tmp_path), "now"]
        started.append(subprocess.Popen(command, stdout=log, stderr=log))
    until(lambda: (tmp_path / "endpoints").is_file())
    control, inference = (tmp_path / "endpoints").read_text().split()
    station = start_station(tmp_path, control, started, inference_endpoint=inference, spool_bytes=1_000)
    assert started[0].wait(60) == 0
    assert station.wait(60) == 0
    assert len(list(tmp_path.glob("*.recorded"))) == 3
    assert "the limit is 1000 (spool_bytes). The episode is kept in memory" in (tmp_path / "arm.log").read_text()


def until(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
