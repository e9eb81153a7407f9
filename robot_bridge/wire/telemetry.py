"""The telemetry plane: what stations tell viewers in passing; lossy, small, and never in the way of anything else.

Stations and viewers both dial out, to a relay beside the server that passes messages one way and subscriptions the other. A
message is its topic and then the frames of every message. No socket conflates: with several frames to a message ZeroMQ's
CONFLATE would keep the last frame only; short queues, and viewers that read them dry, do the same.
"""

from __future__ import annotations

import threading
from types import TracebackType

import numpy as np
import zmq
from PIL import Image

from opentau.errors import LinkError
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.link import require_loopback
from robot_bridge.wire.messages import Payload, Preview, State, TelemetryMessage, decode, encode

STATE_TOPIC, PREVIEW_TOPIC = "state/", "preview/"
QUEUED_MESSAGES = 4
MAX_BYTES = 1 << 18
BUFFERED_BYTES = 1 << 16
"""In the kernel; what waits there is old news."""
PREVIEW_PIXELS = 160
"""Longest side of a preview."""
PREVIEW_QUALITY = 70
_SUBSCRIBE = 1


class TelemetryPublisher:
    """The station's end. Every method returns at once; not thread-safe."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], *, endpoint: str, session: str, station_id: str) -> None:
        self._socket = _socket(context, zmq.XPUB)
        self._socket.connect(endpoint)
        self.session = session
        self._station_id = station_id
        self._wanted: set[str] = set()

    def close(self) -> None:
        self._socket.close(0)

    def is_wanted(self, topic: str) -> bool:
        """Return whether somebody subscribes to this topic or to what it begins with."""
        while self._socket.poll(0, zmq.POLLIN):
            said = self._socket.recv()
            change = self._wanted.add if said[:1] == bytes((_SUBSCRIBE,)) else self._wanted.discard
            change(said[1:].decode(errors="replace"))
        return any(topic.startswith(prefix) for prefix in self._wanted)

    def state(self, state: State) -> bool:
        """Say how it goes; return whether it went out. Ten to twenty a second are plenty."""
        return self._publish(STATE_TOPIC + self._station_id, state, {})

    def preview(self, camera: str, pixels: np.ndarray, *, tick: int) -> bool:
        """Show uint8 [Y, X, 3] in small, if anybody looks at this camera; return whether it went out."""
        topic = f"{PREVIEW_TOPIC}{self._station_id}/{camera}"
        if not self.is_wanted(topic):
            return False
        message = Preview(session=self.session, station_id=self._station_id, camera=camera, tick=tick)
        return self._publish(topic, message, {"image": CodedImage.of(shrunk(pixels), quality=PREVIEW_QUALITY)})

    def _publish(self, topic: str, message: TelemetryMessage, arrays: dict[str, Payload]) -> bool:
        if not self.is_wanted(topic):
            return False
        try:
            self._socket.send_multipart([topic.encode(), *encode(message, arrays)], flags=zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True


class TelemetryRelay(threading.Thread):
    """The server's middle: binds for stations and for viewers, and passes on without looking into anything."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], *, host: str = "127.0.0.1", station_port: int = 0, viewer_port: int = 0
    ) -> None:
        super().__init__(name="telemetry", daemon=True)
        require_loopback(host)
        self._from_stations, self._to_viewers = _socket(context, zmq.XSUB), _socket(context, zmq.XPUB)
        self._control = context.socket(zmq.PAIR)
        self._steering = context.socket(zmq.PAIR)
        try:
            for socket, port in ((self._from_stations, station_port), (self._to_viewers, viewer_port)):
                socket.bind(f"tcp://{host}:{port or '*'}")
            self._control.bind(f"inproc://telemetry-{id(self)}")
            self._steering.connect(f"inproc://telemetry-{id(self)}")
        except zmq.ZMQError as error:
            self._close()
            self._steering.close(0)
            raise LinkError(f"telemetry cannot listen on {host}: {error.strerror}; set its ports to 0 to take any") from error
        self.station_endpoint = self._from_stations.getsockopt_string(zmq.LAST_ENDPOINT)
        self.viewer_endpoint = self._to_viewers.getsockopt_string(zmq.LAST_ENDPOINT)

    def run(self) -> None:
        try:
            zmq.proxy_steerable(self._from_stations, self._to_viewers, None, self._control)
        finally:
            self._close()

    def stop(self) -> None:
        """End the thread; call it once, after it was started."""
        self._steering.send(b"TERMINATE")
        self.join()
        self._steering.close(0)

    def _close(self) -> None:
        for socket in (self._from_stations, self._to_viewers, self._control):
            socket.close(0)


class TelemetryViewer:
    """A viewer's end: subscribes, and takes the newest of every topic. Not thread-safe."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], *, endpoint: str, session: str, topics: tuple[str, ...] = (STATE_TOPIC,)
    ) -> None:
        """`topics`: 'state/', 'preview/STATION/CAMERA', or what they begin with."""
        self._session = session
        self._socket = _socket(context, zmq.SUB)
        for topic in topics:
            self._socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        self._socket.connect(endpoint)

    def __enter__(self) -> TelemetryViewer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close(0)

    def subscribe(self, topic: str) -> None:
        self._socket.setsockopt_string(zmq.SUBSCRIBE, topic)

    def unsubscribe(self, topic: str) -> None:
        self._socket.setsockopt_string(zmq.UNSUBSCRIBE, topic)

    def newest(self, *, timeout_s: float = 0.0) -> dict[str, tuple[TelemetryMessage, dict[str, Payload]]]:
        """Read all that waits, after at most `timeout_s`; return the last of every topic; rubbish is dropped."""
        newest: dict[str, tuple[TelemetryMessage, dict[str, Payload]]] = {}
        if not self._socket.poll(max(0, int(timeout_s * 1000)), zmq.POLLIN):
            return newest
        for _ in range(1_000):  # stations must not be able to keep a viewer here
            if not self._socket.poll(0, zmq.POLLIN):
                break
            topic, *frames = self._socket.recv_multipart()
            try:
                message, arrays = decode(frames, max_bytes=MAX_BYTES)
            except LinkError:
                continue
            if isinstance(message, State | Preview) and message.session == self._session:
                newest[topic.decode(errors="replace")] = message, arrays
        return newest


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 [Y, X, 3] with its longest side at most `PREVIEW_PIXELS`."""
    longest = max(pixels.shape[:2])
    if longest <= PREVIEW_PIXELS:
        return pixels
    height, width = (max(1, round(side * PREVIEW_PIXELS / longest)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    for option, value in {
        zmq.LINGER: 0,
        zmq.SNDHWM: QUEUED_MESSAGES,
        zmq.RCVHWM: QUEUED_MESSAGES,
        zmq.SNDBUF: BUFFERED_BYTES,
        zmq.RCVBUF: BUFFERED_BYTES,
        zmq.MAXMSGSIZE: MAX_BYTES,
        zmq.HANDSHAKE_IVL: 10_000,
    }.items():
        socket.setsockopt(option, value)
    return socket
