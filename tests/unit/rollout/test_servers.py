"""What strangers send to a server is refused and changes nothing for its stations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
import zmq

from opentau.rollout.inference import InferenceServer
from opentau.rollout.schedule import PlanQueue
from opentau.rollout.server import NUM_IDLE_SIGNS, Connected, ControlServer, Finished, Lost, Refused, ServerEvent, Silent
from opentau.types import EpisodeResult, Outcome
from robot_bridge.wire.clocks import BOOT_ID
from robot_bridge.wire.link import Plane, bind, dial, receive, send, wait
from robot_bridge.wire.messages import (
    AnyMessage,
    Assign,
    Bye,
    Chunk,
    Heartbeat,
    Hello,
    Obs,
    Reject,
    Stamp,
    TimePing,
    TimePong,
    Upload,
    UploadAck,
    Welcome,
)
from tests.fakes import ScriptedPolicy, counting_interface
from tests.unit.rollout.sessions import plan

HELLO = Hello(session="now", station_id="s1", interface=counting_interface())


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


Dial = Callable[[str], zmq.Socket]


@pytest.fixture
def control(context) -> Iterator[tuple[ControlServer, Dial]]:
    """A control server that takes silence of 0.3 s for death, and a way to dial it."""
    socket, endpoint = bind(context, Plane.CONTROL, host="127.0.0.1")
    server = ControlServer(socket, session="now", interfaces={}, station_silence_s=0.3, build_silence_s=60.0)
    server.start()
    yield server, lambda identity: dial(context, Plane.CONTROL, endpoint=endpoint, identity=identity)
    server.stop()
    server.join(5.0)
    assert not server.is_alive()


def answer(socket: zmq.Socket, plane: Plane = Plane.CONTROL) -> AnyMessage:
    assert wait(socket, timeout_s=5.0), "no answer"
    return receive(socket, plane)[0]


def next_event(server: ControlServer) -> ServerEvent:
    return server.events.get(timeout=5.0)


def upload(index: int) -> Upload:
    result = EpisodeResult(
        plan=plan(index), outcome=Outcome.TIMEOUT, num_steps=0, num_intervention_steps=0, policy_version="", digest=""
    )
    return Upload(session="now", result=result, prompt="", env_id="", num_clipped_actions=0)


@pytest.mark.parametrize(
    "frames", [[b""], [b"x", b"y"], [b"OTB1\x01\x00", b"\xc1"], [b"OTB1\x02\x00", b"\x80"], [b"OTB1\x01\x00", b"\x80", b"a"]]
)
def test_rubbish_is_refused_and_the_server_goes_on(control, frames):
    server, dial_in = control
    stranger, station = dial_in("stranger"), dial_in("s1")
    stranger.send_multipart(frames)
    assert isinstance(answer(stranger), Reject)
    assert isinstance(next_event(server), Refused)
    send(station, Plane.CONTROL, HELLO)
    assert answer(station) == Welcome(session="now")


def test_a_station_of_an_earlier_session_is_refused(control):
    _, dial_in = control
    station = dial_in("s1")
    send(station, Plane.CONTROL, Hello(session="before", station_id="s1", interface=counting_interface()))
    assert "belongs to session before, this is now" in answer(station).text


def test_a_station_under_a_false_name_is_refused(control):
    _, dial_in = control
    station = dial_in("s2")
    send(station, Plane.CONTROL, HELLO)
    assert "calls itself 's1' came as 's2'" in answer(station).text


def test_a_station_is_welcomed_assigned_acknowledged_and_dismissed(control):
    server, dial_in = control
    station = dial_in("s1")
    send(station, Plane.CONTROL, HELLO)
    assert answer(station) == Welcome(session="now")
    assert next_event(server) == Connected("s1")
    server.submit(PlanQueue([plan(0)]))
    assert answer(station) == Assign(session="now", plan=plan(0))
    for _ in range(2):  # the second is late: acknowledged, but no result any more
        send(station, Plane.CONTROL, upload(0))
        assert answer(station) == UploadAck(session="now", episode_id="e/0")
    send(station, Plane.CONTROL, Heartbeat(session="now"))
    assert answer(station) == Heartbeat(session="now", boot_id=BOOT_ID)
    events = [next_event(server)]
    while not server.events.empty():
        events.append(next_event(server))
    assert [type(event) for event in events] == [Finished]
    server.stop()
    assert answer(station) == Bye(session="now")


def test_a_silent_station_is_reported_once_and_its_plan_given_to_another(control):
    server, dial_in = control
    server.submit(PlanQueue([plan(0)]))
    station = dial_in("s1")
    send(station, Plane.CONTROL, HELLO)
    assert [type(next_event(server)) for _ in range(2)] == [Connected, Silent]
    server.remove("s1")
    event = next_event(server)
    assert isinstance(event, Lost)
    assert event.lost.num_losses == 1
    other = dial_in("s2")
    send(other, Plane.CONTROL, Hello(session="now", station_id="s2", interface=counting_interface()))
    assert isinstance(answer(other), Welcome)
    assert answer(other) == Assign(session="now", plan=plan(0))


def test_a_station_that_builds_is_given_time(control):
    server, dial_in = control
    station = dial_in("s1")
    for message in (HELLO, Heartbeat(session="now", is_building=True)):
        send(station, Plane.CONTROL, message)
        answer(station)
    assert isinstance(next_event(server), Connected)
    assert not wait(station, timeout_s=0.6)
    assert server.events.empty()


def test_a_server_says_what_its_clock_says_and_which_process_it_is(control):
    _, dial_in = control
    station = dial_in("s1")
    before = time.monotonic_ns()
    send(station, Plane.CONTROL, TimePing(session="now", t1_ns=before))
    pong = answer(station)
    assert isinstance(pong, TimePong)
    assert (pong.t1_ns, pong.boot_id) == (before, BOOT_ID)
    assert before <= pong.t2_ns <= pong.t3_ns <= time.monotonic_ns()


def test_a_station_that_introduces_itself_again_plays_nothing_and_its_plan_is_assigned_anew(control):
    server, dial_in = control
    server.submit(PlanQueue([plan(0)]))
    station = dial_in("s1")
    for _ in range(2):  # its program was killed and started again
        send(station, Plane.CONTROL, HELLO)
        assert answer(station) == Welcome(session="now")
        assert answer(station) == Assign(session="now", plan=plan(0))
    assert [type(next_event(server)) for _ in range(3)] == [Connected, Lost, Connected]


def test_a_plan_that_was_lost_on_its_way_is_sent_again_to_a_station_that_stays_idle(control):
    server, dial_in = control
    station = dial_in("s1")
    server.submit(PlanQueue([plan(0)]))
    send(station, Plane.CONTROL, HELLO)
    assert isinstance(answer(station), Welcome)
    assert answer(station) == Assign(session="now", plan=plan(0))
    for is_idle in (True, True, False, *[True] * NUM_IDLE_SIGNS):
        send(station, Plane.CONTROL, Heartbeat(session="now", is_idle=is_idle))
        assert isinstance(answer(station), Heartbeat)
    assert answer(station) == Assign(session="now", plan=plan(0))
    assert not wait(station, timeout_s=0.1)


def obs(**changes: object) -> Obs:
    plain = {
        "session": "now",
        "seq": 1,
        "episode_id": "e",
        "policy_id": "p",
        "episode_seed": 1,
        "tick": 0,
        "time_s": 0.0,
        "prompt": "go",
        "wants_value": False,
    }
    return Obs(**(plain | changes))


def test_an_inference_server_answers_what_belongs_to_it_and_refuses_the_rest(context):
    socket, endpoint = bind(context, Plane.INFERENCE, host="127.0.0.1")
    refused: list[str] = []
    errors: list[Exception] = []
    server = InferenceServer(
        socket,
        session="now",
        policies={"p": ScriptedPolicy()},
        critic=None,
        batch_size=4,
        gather_s=0.0,
        num_playing=lambda: 1,
        on_error=errors.append,
        on_refused=refused.append,
    )
    server.start()
    station = dial(context, Plane.INFERENCE, endpoint=endpoint, identity="s1")
    state = np.zeros(4, np.float32)
    station.send_multipart([b"x", b"y"])
    send(station, Plane.INFERENCE, obs(session="before"), {"state": state})
    send(station, Plane.INFERENCE, obs(policy_id="q"), {"state": state})
    send(station, Plane.INFERENCE, obs(), {"state": state.astype(np.float64)})
    stamp = Stamp(t_obs_ns=1, t_send_ns=2, boot_id="b", answer_within_ms=0.0)
    send(station, Plane.INFERENCE, obs(seq=6, stamp=stamp), {"state": state})
    time.sleep(0.1)  # of two requests that wait the newer counts anyway
    stamp = msgspec.structs.replace(stamp, answer_within_ms=5_000.0)
    send(station, Plane.INFERENCE, obs(seq=7, stamp=stamp), {"state": state})
    reply = answer(station, Plane.INFERENCE)
    server.stop()
    server.join(5.0)
    assert isinstance(reply, Chunk)
    assert reply.seq == 7
    assert (reply.t_obs_ns, reply.t_send_ns, reply.boot_id) == (1, 2, BOOT_ID)
    assert reply.queue_ms > 0.0
    assert len(refused) == 4
    assert "policy 'q' is not served; served are ['p']" in refused[2]
    assert not errors


class ShortMemory(ScriptedPolicy):
    """Continues two committed actions at most."""

    max_committed = 2


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"prefix": np.zeros((3, 2), np.float32)}, "commits 3 actions; the policy continues at most 2"),
        ({"prefix": np.zeros((1, 3), np.float32)}, "committed actions have 3 numbers; the policy's have 2"),
        ({"state": np.zeros(5, np.float32)}, "the state has 5 numbers; the policy knows 4"),
    ],
)
def test_a_request_that_the_policy_cannot_answer_is_refused_and_others_are_answered(context, arrays, text):
    socket, endpoint = bind(context, Plane.INFERENCE, host="127.0.0.1")
    refused: list[str] = []
    errors: list[Exception] = []
    server = InferenceServer(
        socket,
        session="now",
        policies={"p": ShortMemory()},
        critic=None,
        batch_size=4,
        gather_s=0.0,
        num_playing=lambda: 2,
        on_error=errors.append,
        on_refused=refused.append,
    )
    server.start()
    asking, other = (dial(context, Plane.INFERENCE, endpoint=endpoint, identity=name) for name in ("s1", "s2"))
    good = {"state": np.zeros(4, np.float32), "prefix": np.zeros((2, 2), np.float32)}
    send(asking, Plane.INFERENCE, obs(seq=7), good | arrays)
    send(other, Plane.INFERENCE, obs(seq=8), good)
    refusal, chunk = answer(asking, Plane.INFERENCE), answer(other, Plane.INFERENCE)
    server.stop()
    server.join(5.0)
    assert isinstance(refusal, Reject)
    assert refusal.seq == 7
    assert text in refusal.text
    assert text in refused[0]
    assert isinstance(chunk, Chunk)
    assert not errors
