"""Who may come: answers ZeroMQ's authentication requests (ZAP, RFC 27) and checks who sent a message before it is decoded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from opentau.errors import KeyFileError
from robot_bridge.security.audit import UNKNOWN, Audit
from robot_bridge.security.keys import KeyPair
from robot_bridge.security.trust import Role, TrustedKey, TrustList

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ANY_ROLE = frozenset(Role)
USER_ID = "User-Id"
"""Property of every received frame: the public key that its connection proved to hold."""

_VERSION, _MECHANISM, _NUM_FRAMES = b"1.0", b"CURVE", 7
_POLL_MS = 50
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class Authority(threading.Thread):
    """Answer the handshakes of one context as long as it is entered; leave it before the context ends."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], *, pair: KeyPair, trusted: TrustList, audit: Audit) -> None:
        """`pair`: what the sockets of this side prove to be."""
        super().__init__(name="authority", daemon=True)
        self.pair = pair
        self.audit = audit
        self._context = context
        self._trusted = trusted
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()
        self._monitors: list[zmq.Socket[bytes]] = []
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(ZAP_ENDPOINT)

    def __enter__(self) -> Authority:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_stopping.set()
        self.join()

    def secure(self, socket: zmq.Socket[bytes], *, roles: frozenset[Role] = ANY_ROLE) -> None:
        """Make a socket, before it is bound, accept trusted keys of these roles only; failed handshakes are audited."""
        if socket.context is not self._context or not self.is_alive():
            raise KeyFileError("keys need the authority of the socket's own context, running; enter it before binding")
        socket.curve_server = True
        socket.curve_secretkey = self.pair.secret.encode()
        socket.curve_publickey = self.pair.public.encode()
        socket.setsockopt_string(zmq.ZAP_DOMAIN, ",".join(sorted(roles)))
        monitor = socket.get_monitor_socket(_FAILED)
        monitor.linger = 0
        with self._lock:
            self._monitors.append(monitor)

    def entry(self, public: str) -> TrustedKey | None:
        """Return who has this key now; a damaged list trusts nobody."""
        with self._lock:
            try:
                return self._trusted.entry(public)
            except KeyFileError as error:
                self.audit.refused(who=UNKNOWN, role="", what="trust list", why=str(error))
                return None

    def run(self) -> None:
        try:
            while not self._is_stopping.is_set():
                if self._socket.poll(_POLL_MS, zmq.POLLIN):
                    self._answer(self._socket.recv_multipart())
                self._note_failures()
        finally:
            with self._lock:
                for monitor in self._monitors:
                    monitor.close(0)
            self._socket.close(0)

    def _answer(self, frames: Sequence[bytes]) -> None:
        request_id = frames[1] if len(frames) > 1 else b""
        entry = self._judge(frames)
        status = [b"200", b"OK", entry.public.encode()] if entry is not None else [b"400", b"not trusted", b""]
        self._socket.send_multipart([_VERSION, request_id, *status, b""])

    def _judge(self, frames: Sequence[bytes]) -> TrustedKey | None:
        """Return whose handshake this is: version, request id, domain (the roles), address, identity, mechanism, public key."""
        if len(frames) != _NUM_FRAMES or frames[0] != _VERSION or frames[5] != _MECHANISM or len(frames[6]) != 32:
            self.audit.refused(who=UNKNOWN, role="", what="handshake", why="it brings no key")
            return None
        public = z85.encode(frames[6]).decode()
        entry = self.entry(public)
        if entry is None:
            address = frames[3].decode(errors="replace")
            self.audit.refused(who=f"key {public} from {address}", role="", what="handshake", why="this key is not trusted")
            return None
        welcome = frames[2].decode(errors="replace").split(",")
        if entry.role not in welcome:
            why = f"a {entry.role} has no business here; welcome are {welcome}"
            self.audit.refused(who=entry.name, role=entry.role, what="handshake", why=why, peer=entry.name)
            return None
        return entry

    def _note_failures(self) -> None:
        with self._lock:
            monitors = list(self._monitors)
        for monitor in monitors:
            with contextlib.suppress(zmq.ZMQError):  # its socket is closed
                while monitor.poll(0):
                    recv_monitor_message(monitor, zmq.DONTWAIT)
                    why = "it failed: no key, or not meant for this server's key"
                    self.audit.refused(who=UNKNOWN, role="", what="handshake", why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What one bound socket asks before it looks into a message."""

    authority: Authority
    roles: frozenset[Role]
    max_bytes: int

    def admit(self, identity: bytes, frames: Sequence[zmq.Frame]) -> TrustedKey | None:
        """Return whose message this is; None, after auditing why, where it is not to be decoded."""
        name = identity.decode(errors="replace")
        publics = {_user_id(frame) for frame in frames}
        entry = self.authority.entry(publics.pop()) if len(publics) == 1 else None
        if entry is None:
            self.authority.audit.refused(who=name, role="", what="message", why="its key is not trusted, or not any more")
            return None
        num_bytes = sum(len(frame) for frame in frames)
        if not entry.covers(name):
            why = f"it calls itself {name!r}, which the key of {entry.name} may not"
        elif entry.role not in self.roles:
            why = f"a {entry.role} has no business here; welcome are {sorted(self.roles)}"
        elif num_bytes > self.max_bytes:
            why = f"it has {num_bytes} bytes; the limit is {self.max_bytes}"
        else:
            return entry
        self.authority.audit.refused(who=entry.name, role=entry.role, what="message", why=why, peer=entry.name)
        return None


def _user_id(frame: zmq.Frame) -> str:
    """Return the key behind a frame, '' where its connection proved none."""
    try:
        return str(frame.get(USER_ID))
    except zmq.ZMQError:
        return ""
