"""How a station delivers a spooled episode: in pieces, as far as the server has room, until it is safe there."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from opentau.errors import LinkError
from robot_bridge.wire.liveness import Silence
from robot_bridge.wire.messages import Assign, ControlMessage, EpisodeMeta, Message, Payload, Shard, ShardAck, UploadAck
from robot_bridge.wire.spool import Spooled

SHARD_BYTES = 1 << 20
POLL_S = 0.25
ASK_AGAIN_S = 2.0
"""Silence after which the server is asked how much it has: it may be another one by now."""


class ControlLink(Protocol):
    """The station's way to the server."""

    def send_control(self, message: ControlMessage, arrays: Mapping[str, Payload] | None = None) -> None: ...

    def next_control(self, timeout_s: float) -> Message | None: ...

    def put_back(self, message: Message) -> None:
        """Have a message come again from `next_control`."""
        ...

    def keep_alive(self) -> None:
        """Raise `LinkError` when the server is gone."""
        ...


class Fate(enum.Enum):
    """What became of an episode that was offered."""

    TAKEN = enum.auto()
    """The server has it on its disk, or had it already."""
    NOT_NOW = enum.auto()
    """No run expects it at present."""
    REFUSED = enum.auto()
    """It will never be taken."""


@dataclass(frozen=True, slots=True)
class Delivered:
    fate: Fate
    text: str = ""
    """Why it was refused."""


def deliver(link: ControlLink, spooled: Spooled, *, session: str, timeout_s: float) -> Delivered:
    """Offer an episode and send what the server lacks of it; raises `LinkError` when the server is gone.

    Plans that arrive meanwhile wait, but one for this very episode is dropped: it has been played.
    """
    held: list[Message] = []
    try:
        return _Delivery(link, spooled, session=session, timeout_s=timeout_s).run(held)
    finally:
        for message in held:
            is_played = isinstance(message, Assign) and message.plan.episode_id == spooled.episode_id
            if not is_played:
                link.put_back(message)


class _Delivery:
    def __init__(self, link: ControlLink, spooled: Spooled, *, session: str, timeout_s: float) -> None:
        self._link = link
        self._spooled = spooled
        self._session = session
        self._timeout_s = timeout_s
        self._sent = 0
        self._has = 0
        """What the server is known to have."""

    def run(self, held: list[Message]) -> Delivered:
        waited, since_asked = Silence(), Silence()
        self._ask()
        while waited.advance() <= self._timeout_s:
            message = self._link.next_control(POLL_S)
            if isinstance(message, UploadAck) and message.episode_id == self._spooled.episode_id:
                return Delivered(Fate.TAKEN)
            if isinstance(message, ShardAck) and message.sha256 == self._spooled.sha256:
                if message.refusal:
                    return Delivered(Fate.REFUSED, message.refusal)
                if not message.credit:
                    return Delivered(Fate.NOT_NOW)
                waited.heard()
                since_asked.heard()
                self._send_on(message)
            elif isinstance(message, Assign):
                held.append(message)
            self._link.keep_alive()
            if since_asked.advance() > ASK_AGAIN_S:
                since_asked.heard()
                self._sent = self._has = 0
                self._ask()
        raise LinkError(f"the server has not taken episode {self._spooled.episode_id} within {self._timeout_s:g} s")

    def _ask(self) -> None:
        spooled = self._spooled
        self._link.send_control(
            EpisodeMeta(
                session=self._session, episode_id=spooled.episode_id, num_bytes=spooled.num_bytes, sha256=spooled.sha256
            )
        )

    def _send_on(self, ack: ShardAck) -> None:
        """Send what there is credit for; a server that has less than before has forgotten, and gets it again."""
        if ack.offset < self._has:
            self._sent = ack.offset
        self._has = ack.offset
        self._sent = max(self._sent, ack.offset)
        while self._sent < min(self._spooled.num_bytes, ack.offset + ack.credit):
            piece = self._spooled.read(self._sent, SHARD_BYTES)
            shard = Shard(
                session=self._session, episode_id=self._spooled.episode_id, sha256=self._spooled.sha256, offset=self._sent
            )
            self._link.send_control(shard, {"data": np.frombuffer(piece, np.uint8)})
            self._sent += len(piece)
