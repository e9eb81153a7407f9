"""The sockets of both ends: what is bound and dialled, their limits, and messages in and out of them."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zmq

from opentau.errors import LinkError
from robot_bridge.security.authority import ANY_ROLE, Authority, Guard
from robot_bridge.security.keys import ClientCredentials
from robot_bridge.security.trust import Role, TrustedKey
from robot_bridge.wire.messages import AnyMessage, Frame, Payload, decode, encode

SEND_TIMEOUT_MS = 10_000
HANDSHAKE_TIMEOUT_MS = 10_000
COPIED_BYTES = 1 << 18
"""Frames below this are copied: to keep one until it has left wakes pyzmq's collecting thread, which costs as much."""
INSECURE = "anyone on this network may command this robot"
"""What has to be said, word by word, to listen on a network without keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneLimits:
    """How much one plane holds and carries."""

    queued_messages: int
    """Messages of one peer that wait in a socket, each way."""
    max_bytes: int
    """Largest message; larger frames close the connection before they are read."""


class Plane(enum.Enum):
    """Kinds of traffic that must not wait for each other; each has its own socket."""

    CONTROL = PlaneLimits(queued_messages=100, max_bytes=1 << 29)
    """Handshake, plans, signs of life and finished episodes."""
    INFERENCE = PlaneLimits(queued_messages=4, max_bytes=1 << 24)
    """Observations and chunks."""
    VIEWING = PlaneLimits(queued_messages=16, max_bytes=1 << 21)
    """Events of a run to those who follow it, and their commands."""


def bind(
    context: zmq.Context[zmq.Socket[bytes]],
    plane: Plane,
    *,
    host: str,
    port: int = 0,
    authority: Authority | None = None,
    roles: frozenset[Role] = ANY_ROLE,
    insecure: str = "",
) -> tuple[zmq.Socket[bytes], str]:
    """Return a bound ROUTER and its endpoint; port 0 takes any that is free.

    With an authority only trusted keys of these roles get in; read such a socket by `receive_admitted`. Raises `LinkError` for
    a busy port, and without keys for any address but a loopback one, unless `insecure` is the sentence `INSECURE`.
    """
    if authority is None:
        require_loopback(host, insecure=insecure)
    socket = context.socket(zmq.ROUTER)
    try:
        _configure(socket, plane)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # who dials again after a blackout must not wait for TCP to notice it
        if authority is not None:
            authority.secure(socket, roles=roles)
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        socket.close(0)
        raise LinkError(
            f"cannot listen on {host}:{port}: {error.strerror}. Another program, perhaps another run, has this port; "
            "stop it, or set port=0 to take any that is free"
        ) from error
    except BaseException:
        socket.close(0)
        raise
    return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)


def dial(
    context: zmq.Context[zmq.Socket[bytes]],
    plane: Plane,
    *,
    endpoint: str,
    identity: str,
    credentials: ClientCredentials | None = None,
) -> zmq.Socket[bytes]:
    """Return a DEALER that connects to `endpoint`, now and again after every loss; with credentials only to that server.

    Without zmq.IMMEDIATE, which drops what has arrived but was not read yet when the other side closes.
    """
    socket = context.socket(zmq.DEALER)
    _configure(socket, plane)
    socket.setsockopt_string(zmq.IDENTITY, identity)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2_000)
    if credentials is not None:
        socket.curve_serverkey = credentials.server_public.encode()
        socket.curve_publickey = credentials.pair.public.encode()
        socket.curve_secretkey = credentials.pair.secret.encode()
    socket.connect(endpoint)
    return socket


def require_loopback(host: str, *, insecure: str = "") -> None:
    """Raise `LinkError` for any address but a loopback one, and for a name, which may mean any machine.

    `insecure` lifts that where it is the sentence `INSECURE`, and is refused where it is anything else.
    """
    if insecure and insecure != INSECURE:
        raise LinkError(f"insecure is {insecure!r}; without keys a network is listened on only if it says {INSECURE!r}")
    if not insecure and not is_loopback(host):
        raise LinkError(
            f"the bridge was asked to listen on {host}; without keys it listens on 127.0.0.1 only. Make keys with "
            "`opentau keys new NAME`, trust the other side's, and name yours (docs/security.md)"
        )


def is_loopback(host: str) -> bool:
    """Return whether this is an address that only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _configure(socket: zmq.Socket[bytes], plane: Plane) -> None:
    """Set what both ends share; no heartbeats of the transport, which would cut a link because a program was suspended."""
    options = {
        zmq.LINGER: 0,
        zmq.SNDHWM: plane.value.queued_messages,
        zmq.RCVHWM: plane.value.queued_messages,
        zmq.MAXMSGSIZE: plane.value.max_bytes,
        zmq.SNDTIMEO: SEND_TIMEOUT_MS,
        zmq.HANDSHAKE_IVL: HANDSHAKE_TIMEOUT_MS,
        zmq.TCP_KEEPALIVE: 1,
    }
    for option, value in options.items():
        socket.setsockopt(option, value)


def wait(socket: zmq.Socket[bytes], *, timeout_s: float) -> bool:
    """Return whether a message is there, after at most `timeout_s`."""
    return bool(zmq.zmq_poll([(socket, zmq.POLLIN)], max(0, int(timeout_s * 1000))))


def send(socket: zmq.Socket[bytes], plane: Plane, message: AnyMessage, arrays: Mapping[str, Payload] | None = None) -> None:
    """Send from a DEALER; raises `LinkError` for too large a message and when the server takes nothing for ten seconds."""
    try:
        _send_frames(socket, _sendable(plane, message, arrays), flags=0)
    except zmq.Again as error:
        raise LinkError(f"the server has not taken a {type(message).__name__} for {SEND_TIMEOUT_MS / 1000:g} s") from error


def try_send(socket: zmq.Socket[bytes], plane: Plane, message: AnyMessage, arrays: Mapping[str, Payload] | None = None) -> bool:
    """Send from a DEALER without waiting; return False where the server takes nothing now, and forget the message."""
    try:
        _send_frames(socket, _sendable(plane, message, arrays), flags=zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True


def _sendable(plane: Plane, message: AnyMessage, arrays: Mapping[str, Payload] | None) -> list[Frame]:
    frames = encode(message, arrays)
    num_bytes = sum(map(len, frames))
    if num_bytes > plane.value.max_bytes:
        raise LinkError(f"a message of {num_bytes} bytes cannot be sent; the limit is {plane.value.max_bytes}")
    return frames


def receive(socket: zmq.Socket[bytes], plane: Plane) -> tuple[AnyMessage, dict[str, Payload]]:
    """Read the message that `wait` announced on a DEALER; raises `LinkError` for anything that is none."""
    return decode(_frames(socket), max_bytes=plane.value.max_bytes)


def send_to(
    socket: zmq.Socket[bytes], identity: bytes, message: AnyMessage, arrays: Mapping[str, Payload] | None = None
) -> bool:
    """Send from a ROUTER; return False where the peer is gone or takes nothing."""
    try:
        _send_frames(socket, [identity, *encode(message, arrays)], flags=zmq.DONTWAIT)
    except zmq.ZMQError as error:
        if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
            raise
        return False
    return True


def receive_from(socket: zmq.Socket[bytes]) -> tuple[bytes, list[Frame]]:
    """Read who sent the message that `wait` announced on a ROUTER, and its frames, not decoded yet."""
    identity, *frames = _frames(socket)
    return bytes(identity), frames


def receive_admitted(socket: zmq.Socket[bytes], guard: Guard | None) -> tuple[bytes, list[Frame], TrustedKey | None] | None:
    """Read what waits on a ROUTER: who sent it, its frames, not decoded yet, and whose key it is (None without a guard).

    None where the guard refuses it; who is refused is told nothing.
    """
    identity, *frames = _receive(socket)
    entry = None
    if guard is not None:
        entry = guard.admit(identity.bytes, frames)
        if entry is None:
            return None
    return identity.bytes, [frame.buffer for frame in frames], entry


def _frames(socket: zmq.Socket[bytes]) -> list[Frame]:
    """Read a message as views of what has arrived."""
    return [frame.buffer for frame in _receive(socket)]


def _receive(socket: zmq.Socket[bytes]) -> list[zmq.Frame]:
    """Read a message (pyzmq's own loop asks the socket after every frame)."""
    frames: list[zmq.Frame] = []
    while True:
        frame = socket.recv(zmq.DONTWAIT, copy=False)
        frames.append(frame)
        if not frame.more:
            return frames


def _send_frames(socket: zmq.Socket[bytes], frames: Sequence[Frame], *, flags: int) -> None:
    """Send a message; it goes out whole or not at all."""
    for frame in frames[:-1]:
        socket.send(frame, flags | zmq.SNDMORE, copy=len(frame) < COPIED_BYTES)
    socket.send(frames[-1], flags, copy=len(frames[-1]) < COPIED_BYTES)
