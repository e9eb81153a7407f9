"""Sockets: loopback only, limits kept, busy ports named; and the clock of a peer's silence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from opentau.errors import LinkError
from robot_bridge.wire.link import Plane, bind, dial, receive, receive_from, send, send_to, wait
from robot_bridge.wire.liveness import Silence
from robot_bridge.wire.messages import Heartbeat, Welcome, decode


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_messages_go_both_ways_under_the_station_s_name(context):
    server, endpoint = bind(context, Plane.INFERENCE, host="127.0.0.1")
    station = dial(context, Plane.INFERENCE, endpoint=endpoint, identity="station-7")
    pixels = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    send(station, Plane.INFERENCE, Heartbeat(session="s"), {"pixels": pixels})
    assert wait(server, timeout_s=5.0)
    identity, frames = receive_from(server)
    message, arrays = decode(frames, max_bytes=Plane.INFERENCE.value.max_bytes)
    assert identity == b"station-7"
    assert message.session == "s"
    np.testing.assert_array_equal(arrays["pixels"], pixels)
    assert send_to(server, identity, Welcome(session="s"))
    assert wait(station, timeout_s=5.0)
    assert receive(station, Plane.INFERENCE)[0] == Welcome(session="s")


def test_a_message_to_a_station_that_is_gone_is_not_an_error(context):
    server, _ = bind(context, Plane.CONTROL, host="127.0.0.1")
    assert not send_to(server, b"nobody", Welcome(session="s"))


def test_a_busy_port_is_named_with_the_fix(context):
    _, endpoint = bind(context, Plane.CONTROL, host="127.0.0.1")
    port = int(endpoint.rpartition(":")[2])
    with pytest.raises(LinkError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*port=0"):
        bind(context, Plane.CONTROL, host="127.0.0.1", port=port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5"])
def test_only_loopback_addresses_are_listened_on(context, host):
    with pytest.raises(LinkError, match="without keys"):
        bind(context, Plane.CONTROL, host=host)


def test_a_message_above_the_limit_is_not_sent(context):
    station = dial(context, Plane.INFERENCE, endpoint="tcp://127.0.0.1:9", identity="s")
    with pytest.raises(LinkError, match=f"the limit is {1 << 24}"):
        send(station, Plane.INFERENCE, Heartbeat(session="s"), {"pixels": np.zeros(1 << 24, np.uint8)})


def test_a_wait_ends(context):
    station = dial(context, Plane.CONTROL, endpoint="tcp://127.0.0.1:9", identity="s")
    assert not wait(station, timeout_s=0.01)


def test_silence_does_not_count_the_time_in_which_the_listener_slept():
    clock = iter([0.0, 0.5, 3600.0, 3600.5, 3600.6, 3601.0])
    silence = Silence(now=lambda: next(clock))
    assert silence.advance() == 0.5
    assert silence.advance() == 1.5
    assert silence.advance() == 2.0
    silence.heard()
    assert silence.advance() == pytest.approx(0.4)
