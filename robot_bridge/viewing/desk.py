"""The server's half of following and steering a run over the network: its events to viewers, commands from operators."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zmq
from PIL import Image

from opentau.control import JOG, LIVE_FOLDER, VERBS, Command, post
from opentau.errors import LeaseError, LinkError, OptionError
from opentau.events import AUDIT, EVENTS_FOLDER, NOTE, EventLog, EventReader
from opentau.lease import Lease
from robot_bridge.security.audit import ACCEPTED, Allowance, Audit
from robot_bridge.security.authority import Authority, Guard
from robot_bridge.security.keys import NUMBER_MARK, KeyPair, keys_dir
from robot_bridge.security.trust import Role, TrustList
from robot_bridge.wire.images import CHANNELS, CodedImage
from robot_bridge.wire.link import INSECURE, Plane, bind, is_loopback, receive_admitted, send_to, wait
from robot_bridge.wire.messages import (
    EventBlock,
    Follow,
    LeaseAnswer,
    LeaseRequest,
    Look,
    Message,
    Order,
    OrderAnswer,
    Payload,
    Seen,
    decode,
)

SESSION = "viewing"
BLOCK_BYTES = 1 << 20
"""Most bytes of event lines in one answer; a single longer line is left out."""

STATION_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
MOST_CAMERAS = 8

_POLL_S = 0.05
_ORDERS_BURST, _ORDERS_PER_S = 20, 1.0
_JOGS_BURST, _JOGS_PER_S = 200, 50.0
"""Of what moves something in hand; the run tells each, so they are not audited as well."""
_LOCAL = "local"


class CommandDesk:
    """Decide about commands: an operator, the lease where it is needed, each id once; everything but jogs is audited."""

    def __init__(self, run_dir: Path, *, audit: Audit, lease: Lease | None = None) -> None:
        self.lease = lease or Lease(run_dir)
        self._run_dir = run_dir
        self._audit = audit
        self._allowances: dict[tuple[str, bool], Allowance] = {}
        past = EventReader(run_dir).read_new()
        self._seen = {event["command_id"] for event in past if event["kind"] == AUDIT and event["state"] == ACCEPTED}

    def order(self, who: str, role: str, message: Order) -> OrderAnswer:
        """Pass a command on or say why not."""
        try:
            command = Command(verb=message.verb, args=dict(message.args), command_id=message.command_id)
            if role != Role.OPERATOR:
                raise LeaseError(f"a {role} may follow a run, not steer it; that takes a key trusted as operator")
            if message.command_id in self._seen:
                raise LeaseError("this command was obeyed already; it is not done twice")
            self._require_allowance(who, command.verb)
            if VERBS[command.verb].needs_lease:
                self.lease.require(who, message.lease_id)
        except (LeaseError, OptionError) as error:
            self._audit.refused(who=who, role=role, what=f"command {message.verb}", why=str(error), peer=who)
            is_known = message.command_id in self._seen
            return OrderAnswer(
                session=SESSION, command_id=message.command_id, is_accepted=False, is_repeated=is_known, text=str(error)
            )
        try:
            post(self._run_dir, command, operator=who)
        except OSError as error:
            text = f"the command could not be written: {error.strerror}; send it again once there is room"
            self._audit.refused(who=who, role=role, what=f"command {message.verb}", why=text, peer=who)
            return OrderAnswer(session=SESSION, command_id=message.command_id, is_accepted=False, text=text)
        self._seen.add(message.command_id)
        if command.verb != JOG:
            self._audit.accepted(who=who, role=role, what=f"command {command.verb}", command_id=command.command_id)
        return OrderAnswer(session=SESSION, command_id=message.command_id, is_accepted=True)

    def _require_allowance(self, who: str, verb: str) -> None:
        is_jog = verb == JOG
        burst, per_s = (_JOGS_BURST, _JOGS_PER_S) if is_jog else (_ORDERS_BURST, _ORDERS_PER_S)
        allowance = self._allowances.setdefault((who, is_jog), Allowance(burst=burst, per_s=per_s))
        if not allowance.take():
            raise LeaseError(f"more than {per_s:g} commands a second; wait a moment")

    def change_lease(self, who: str, role: str, message: LeaseRequest) -> LeaseAnswer:
        """Acquire, renew or release the lease, or say why not."""
        lease_id = message.lease_id
        try:
            if role != Role.OPERATOR:
                raise LeaseError(f"a {role} may follow a run, not steer it; that takes a key trusted as operator")
            if message.action == "acquire":
                lease_id = self.lease.acquire(who)
            elif message.action == "renew":
                self.lease.renew(who, lease_id)
            else:
                self.lease.release(who, lease_id)
        except LeaseError as error:
            self._audit.refused(who=who, role=role, what=f"lease: {message.action}", why=str(error), peer=who)
            return LeaseAnswer(session=SESSION, seq=message.seq, text=str(error))
        return LeaseAnswer(session=SESSION, seq=message.seq, lease_id=lease_id)


class ViewingServer(threading.Thread):
    """Own one bound socket and answer what comes; a viewer asks for each block, so that a slow one holds up nobody."""

    def __init__(
        self, socket: zmq.Socket[bytes], run_dir: Path, *, audit: Audit, guard: Guard | None, on_error: Callable[[str], None]
    ) -> None:
        super().__init__(name="viewing", daemon=True)
        self._socket = socket
        self._run_dir = run_dir
        self._guard = guard
        self._audit = audit
        self._on_error = on_error
        self._desk = CommandDesk(run_dir, audit=audit)
        self._is_stopping = threading.Event()

    def stop(self) -> None:
        self._is_stopping.set()

    def run(self) -> None:
        try:
            while not self._is_stopping.is_set():
                if wait(self._socket, timeout_s=_POLL_S):
                    self._turn()
        except Exception as error:  # noqa: BLE001  (the border of the thread: the run goes on without viewers)
            self._on_error(f"following and steering from elsewhere ended: {type(error).__name__}: {error}")
        finally:
            self._socket.close(0)

    def _turn(self) -> None:
        received = receive_admitted(self._socket, self._guard)
        if received is None:
            return
        identity, frames, entry = received
        who, role = (entry.name, entry.role) if entry is not None else (_called(identity), Role.OPERATOR)
        try:
            message, _ = decode(frames, max_bytes=Plane.VIEWING.value.max_bytes)
            self._answer(identity, who, role, message)
        except LinkError as error:
            self._audit.refused(who=who, role=role, what="message", why=str(error), peer=who)

    def _answer(self, identity: bytes, who: str, role: str, message: Message) -> None:
        if isinstance(message, Follow):
            answer, lines = event_block(self._run_dir, message)
            send_to(self._socket, identity, answer, {"lines": np.frombuffer(lines, np.uint8)})
        elif isinstance(message, Order):
            send_to(self._socket, identity, self._desk.order(who, role, message))
        elif isinstance(message, LeaseRequest):
            send_to(self._socket, identity, self._desk.change_lease(who, role, message))
        elif isinstance(message, Look):
            send_to(self._socket, identity, *seen_at(self._run_dir, message))
        else:
            raise LinkError(f"a viewer does not send {type(message).__name__}")


def _called(identity: bytes) -> str:
    """Return what somebody calls itself who proved nothing, on a link without keys."""
    return identity.decode(errors="replace").rpartition(NUMBER_MARK)[0] or _LOCAL


def event_block(run_dir: Path, asked: Follow) -> tuple[EventBlock, bytes]:
    """Return the next complete lines after the positions asked from, and the positions after them.

    Only files of the run's event folder are opened; a position is looked up by their names, never the other way round.
    Raises `LinkError` for a position that the log has not reached, and where the log cannot be read.
    """
    positions, lines = dict[str, int](), b""
    for path in sorted((run_dir / EVENTS_FOLDER).glob("*.jsonl")):
        start, room = asked.positions.get(path.name, 0), BLOCK_BYTES - len(lines)
        try:
            if start > (size := path.stat().st_size):
                raise LinkError(f"it asks for {path.name} from byte {start}; the file has {size}")
            with open(path, "rb") as file:
                file.seek(start)
                block = file.read(room)
        except OSError as error:
            raise LinkError(f"{path.name} cannot be read: {error.strerror}") from error
        end = block.rfind(b"\n") + 1
        if not end and len(block) == BLOCK_BYTES:  # one line that no block can hold
            positions[path.name] = start + len(block)
            continue
        positions[path.name] = start + end
        lines += block[:end]
    return EventBlock(session=SESSION, seq=asked.seq, positions=positions), lines


def seen_at(run_dir: Path, asked: Look) -> tuple[Seen, dict[str, Payload]]:
    """Return what a station shows, from the run's directory; nothing where it shows nothing, or is at it right now.

    Raises `LinkError` for a name that is no station's.
    """
    if STATION_NAME.fullmatch(asked.station_id) is None:
        raise LinkError(f"{asked.station_id!r} is no station's name")
    folder = run_dir / LIVE_FOLDER / asked.station_id
    arrays: dict[str, Payload] = {}
    try:
        facts = json.loads((folder / "shown.json").read_text())
        for camera in facts["cameras"][:MOST_CAMERAS]:
            if STATION_NAME.fullmatch(camera):
                data = (folder / f"{camera}.jpg").read_bytes()
                with Image.open(io.BytesIO(data)) as image:
                    arrays[f"images.{camera}"] = CodedImage(data, (image.height, image.width, CHANNELS))
        if "state" in facts:
            arrays["state"] = np.asarray(facts["state"], np.float64)
        return Seen(session=SESSION, seq=asked.seq, episode_id=facts["episode_id"], tick=facts["tick"]), arrays
    except (OSError, ValueError, KeyError):
        return Seen(session=SESSION, seq=asked.seq), {}


@contextmanager
def viewing(
    run_dir: Path, *, host: str, port: int, log: EventLog, pair: KeyPair | None = None, insecure: str = ""
) -> Iterator[str]:
    """Let viewers and operators come to a run and yield the endpoint; without a pair, whoever comes may steer."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    audit = Audit(log.emit)
    authority = None
    if pair is not None:
        authority = Authority(context, pair=pair, trusted=TrustList(keys_dir()), audit=audit)
        authority.start()
    server = None
    try:
        roles = frozenset({Role.OPERATOR, Role.VIEWER})
        socket, endpoint = bind(
            context, Plane.VIEWING, host=host, port=port, authority=authority, roles=roles, insecure=insecure
        )
        if authority is None and insecure == INSECURE and not is_loopback(host):
            log.emit(NOTE, level="warning", text=f"listening on {host} without keys: {INSECURE}")
        limit = Plane.VIEWING.value.max_bytes
        guard = None if authority is None else Guard(authority=authority, roles=roles, max_bytes=limit)
        server = ViewingServer(
            socket, run_dir, audit=audit, guard=guard, on_error=lambda text: log.emit(NOTE, level="error", text=text)
        )
        server.start()
        yield endpoint
    finally:
        if server is not None:
            server.stop()
            server.join()
        if authority is not None:
            authority.__exit__(None, None, None)
        context.destroy(linger=0)
