"""A server with keys for tests of the bridge: real sockets on loopback, real CURVE, a deadline on every receive."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from robot_bridge.security.audit import Audit
from robot_bridge.security.authority import ANY_ROLE, Authority, Guard
from robot_bridge.security.keys import ClientCredentials, KeyPair, make_pair
from robot_bridge.security.trust import Role, TrustList
from robot_bridge.wire.link import Plane, bind, dial, receive_admitted, wait

DEADLINE_S = 5.0


@dataclass(kw_only=True)
class Events:
    """Keeps what is emitted."""

    seen: list[dict[str, Any]] = field(default_factory=list)

    def emit(self, kind: str, **fields: Any) -> None:
        self.seen.append({"kind": kind, **fields})

    def await_audit(self, **wanted: str) -> dict[str, Any]:
        """Return the first event whose fields contain these texts; fails after the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for event in list(self.seen):
                if all(text in event[name] for name, text in wanted.items()):
                    return event
            time.sleep(0.005)
        raise AssertionError(f"no event with {wanted} among {self.seen}")


class Server:
    """One guarded socket."""

    def __init__(
        self,
        folder: Path,
        *,
        plane: Plane = Plane.CONTROL,
        roles: frozenset[Role] = frozenset({Role.ROBOT}),
        at_the_door: frozenset[Role] = ANY_ROLE,
    ) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.events = Events()
        self._dialled: list[zmq.Socket[bytes]] = []
        self.pair = make_pair("server")
        self.trusted = TrustList(folder)
        self.plane = plane
        self.authority = Authority(self.context, pair=self.pair, trusted=TrustList(folder), audit=Audit(self.events.emit))
        self.authority.start()
        self.socket, self.endpoint = bind(self.context, plane, host="127.0.0.1", authority=self.authority, roles=at_the_door)
        self.guard = Guard(authority=self.authority, roles=roles, max_bytes=plane.value.max_bytes)

    def trust(self, name: str, role: str = "robot") -> KeyPair:
        """Return a new trusted pair."""
        pair = make_pair(name)
        self.trusted.trust(name, pair.public, role)
        return pair

    def dial(self, pair: KeyPair, identity: str | None = None, *, server_public: str | None = None) -> zmq.Socket[bytes]:
        credentials = ClientCredentials(pair=pair, server_public=server_public or self.pair.public)
        socket = dial(self.context, self.plane, endpoint=self.endpoint, identity=identity or pair.name, credentials=credentials)
        self._dialled.append(socket)  # a socket that nobody holds closes, and loses what it was to send
        return socket

    def receive(self, timeout_s: float = DEADLINE_S) -> bytes | None:
        """Return who sent the next admitted message; None where none came or what came was refused."""
        if not wait(self.socket, timeout_s=timeout_s):
            return None
        received = receive_admitted(self.socket, self.guard)
        return None if received is None else received[0]

    def receives_nothing_until(self, happened: Callable[[], object]) -> bool:
        """Return whether no message has arrived once `happened` returns."""
        happened()
        return not wait(self.socket, timeout_s=0.05)

    def close(self) -> None:
        self.socket.close(0)
        self.authority.__exit__(None, None, None)
        self.context.destroy(linger=0)
