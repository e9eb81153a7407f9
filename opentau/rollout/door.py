"""How a session's sockets are bound: on loopback as they are, anywhere else with keys, and with a key for its own stations."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq

from opentau.events import NOTE
from opentau.rollout.options import RolloutOptions
from robot_bridge.security.audit import Audit
from robot_bridge.security.authority import Authority, Guard
from robot_bridge.security.keys import OWN_STATIONS, keys_dir, load_pair, make_pair, save_pair, secret_path
from robot_bridge.security.trust import Role, TrustedKey, TrustList
from robot_bridge.wire.link import INSECURE, Plane, bind, is_loopback

ROBOTS = frozenset({Role.ROBOT})
"""Who may come to a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the sockets of one session are bound with."""

    context: zmq.Context[zmq.Socket[bytes]]
    options: RolloutOptions
    authority: Authority | None = None
    own_folder: Path | None = None
    """Holds the key of the session's own stations, for as long as the door is open."""

    @property
    def secret_file(self) -> str:
        """The key that the session's own stations dial with; empty without keys."""
        return "" if self.own_folder is None else str(self.own_folder / f"{OWN_STATIONS}.secret.yaml")

    @property
    def public_key(self) -> str:
        """What stations know the server by; empty without keys."""
        return "" if self.authority is None else self.authority.pair.public

    def bind(self, plane: Plane, *, port: int) -> tuple[zmq.Socket[bytes], str]:
        """Return a bound socket and its endpoint."""
        options = self.options
        return bind(
            self.context,
            plane,
            host=options.host,
            port=port,
            authority=self.authority,
            roles=ROBOTS,
            insecure=options.insecure,
        )

    def guard(self, plane: Plane) -> Guard | None:
        """Return what a socket for robots asks of each message; None without keys."""
        if self.authority is None:
            return None
        return Guard(authority=self.authority, roles=ROBOTS, max_bytes=plane.value.max_bytes)

    def close(self) -> None:
        """Let nobody in any more; before the context ends."""
        if self.authority is not None:
            self.authority.__exit__(None, None, None)
        if self.own_folder is not None:
            shutil.rmtree(self.own_folder, ignore_errors=True)


def open_door(context: zmq.Context[zmq.Socket[bytes]], options: RolloutOptions, *, emit: Callable[..., None]) -> Door:
    """Return the door of a session; with keys its own stations get one that was never used and ends with the session."""
    if not options.keys:
        if options.insecure == INSECURE and not is_loopback(options.host):
            emit(NOTE, level="warning", text=f"listening on {options.host} without keys: {INSECURE}")
        return Door(context=context, options=options)
    pair, own = load_pair(secret_path(options.keys)), make_pair(OWN_STATIONS)
    folder = Path(tempfile.mkdtemp(prefix="opentau-keys-"))
    save_pair(own, folder)
    trusted = TrustList(
        keys_dir(), own=TrustedKey(name=OWN_STATIONS, public=own.public, role=Role.ROBOT, trusted_at="this session")
    )
    authority = Authority(context, pair=pair, trusted=trusted, audit=Audit(emit))
    authority.start()
    return Door(context=context, options=options, authority=authority, own_folder=folder)
