"""Telemetry: seen by who looks, made for nobody else, and lost rather than waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from opentau.errors import LinkError
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import State
from robot_bridge.wire.telemetry import TelemetryPublisher, TelemetryRelay, TelemetryViewer

PICTURE = np.full((480, 640, 3), 90, np.uint8)


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def relay(context) -> Iterator[TelemetryRelay]:
    relay = TelemetryRelay(context)
    relay.start()
    yield relay
    relay.stop()
    assert not relay.is_alive()


@pytest.fixture
def station(context, relay) -> TelemetryPublisher:
    return TelemetryPublisher(context, endpoint=relay.station_endpoint, session="s", station_id="arm")


def until(condition) -> bool:
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False


def state(tick: int = 0) -> State:
    return State(session="s", station_id="arm", tick=tick)


def test_nothing_is_made_while_nobody_looks_and_pictures_only_for_the_camera_that_somebody_looks_at(context, relay, station):
    assert not station.state(state())
    with TelemetryViewer(context, endpoint=relay.viewer_endpoint, session="s") as viewer:
        assert until(lambda: station.state(state(3)))
        assert viewer.newest(timeout_s=5.0)["state/arm"][0].tick == 3
        assert not station.preview("wrist", PICTURE, tick=3)
        viewer.subscribe("preview/arm/wrist")
        assert until(lambda: station.preview("wrist", PICTURE, tick=4))
        assert not station.preview("front", PICTURE, tick=4)
        shown, arrays = viewer.newest(timeout_s=5.0)["preview/arm/wrist"]
        assert shown.tick == 4
        assert isinstance(arrays["image"], CodedImage)
        assert arrays["image"].pixels().shape == (120, 160, 3)
        viewer.unsubscribe("preview/arm/wrist")
        assert until(lambda: not station.preview("wrist", PICTURE, tick=5))
    assert until(lambda: not station.state(state()))


def test_a_viewer_that_does_not_read_costs_the_station_nothing_and_sees_now_afterwards(context, relay, station):
    with TelemetryViewer(context, endpoint=relay.viewer_endpoint, session="s", topics=("state/", "preview/")) as viewer:
        assert until(lambda: station.preview("wrist", PICTURE, tick=0))
        started = time.monotonic()
        for tick in range(3_000):
            station.state(state(tick))
        assert time.monotonic() - started < 2.0
        last = None

        def sees_now() -> bool:
            nonlocal last
            station.state(state(9_999))
            last, _ = viewer.newest(timeout_s=0.1).get("state/arm", (None, {}))
            return last == state(9_999)

        assert until(sees_now), last


def test_messages_of_another_session_and_rubbish_are_not_shown(context, relay, station):
    stranger = context.socket(zmq.PUB)
    stranger.connect(relay.station_endpoint)
    with TelemetryViewer(context, endpoint=relay.viewer_endpoint, session="s") as viewer:
        other = TelemetryPublisher(context, endpoint=relay.station_endpoint, session="t", station_id="arm")
        assert until(lambda: other.is_wanted("state/arm") and station.is_wanted("state/arm"))
        stranger.send_multipart([b"state/arm", b"rubbish"])
        other.state(State(session="t", station_id="arm"))
        assert viewer.newest(timeout_s=0.3) == {}
        assert until(lambda: station.state(state(7)) and "state/arm" in viewer.newest(timeout_s=0.2))


def test_the_relay_listens_on_loopback_only(context):
    with pytest.raises(LinkError, match="without keys"):
        TelemetryRelay(context, host="0.0.0.0")
