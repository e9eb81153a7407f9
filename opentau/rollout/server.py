"""The control plane of the server: a thread that welcomes stations, assigns plans, and takes finished episodes in."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import zmq
from msgspec import UNSET

from opentau.errors import InterfaceMismatch, LinkError, OpenTauError, near_matches
from opentau.rollout.intake import Intake
from opentau.rollout.schedule import LostPlan, PlanQueue
from opentau.types import EpisodePlan, Interface, require_fit
from robot_bridge.security.authority import Guard
from robot_bridge.wire.clocks import BOOT_ID
from robot_bridge.wire.link import Plane, receive_admitted, send_to, wait
from robot_bridge.wire.liveness import Silence
from robot_bridge.wire.messages import (
    ANY_SESSION,
    Assign,
    Bye,
    EpisodeMeta,
    Health,
    Heartbeat,
    Hello,
    Payload,
    Reject,
    Shard,
    Shown,
    Steer,
    Steered,
    TimePing,
    TimePong,
    Upload,
    UploadAck,
    Welcome,
    decode,
)
from robot_bridge.wire.payloads import PlayedEpisode, played_from

POLL_S = 0.01
GOODBYE_MS = 200
"""How long the goodbyes may take to leave."""
NUM_IDLE_SIGNS = 3
"""Signs of life of an idle station after which the plan that it was sent counts as lost on its way."""
MAX_UNREAD_EPISODES = 8
"""Finished episodes that may wait for the session's thread before stations have to wait."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A station was welcomed."""

    station_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The first result of a plan."""

    station_id: str
    played: PlayedEpisode
    plans: PlanQueue
    """The run it belongs to."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A station has not been heard for too long."""

    station_id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The plan of a station that is gone."""

    station_id: str
    lost: LostPlan


@dataclass(frozen=True, slots=True)
class Failed:
    """The session cannot go on."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that was not a message of this session was dropped."""

    text: str


ServerEvent: TypeAlias = Connected | Finished | Silent | Lost | Failed | Refused


@dataclass(slots=True)
class _Peer:
    is_expected: bool = False
    """Whether this session started it."""
    is_welcome: bool = False
    is_building: bool = True
    is_reported_silent: bool = False
    plan: EpisodePlan | None = None
    num_idle: int = 0
    """Signs of life, one after another, of a station that waits for the plan it was sent."""
    last_task: str | None = None
    silence: Silence = field(default_factory=Silence)


class ControlServer(threading.Thread):
    """Own the control socket; what matters to the session comes out of `events`, methods may be called from any thread."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        *,
        session: str,
        interfaces: Mapping[str, Interface],
        station_silence_s: float,
        build_silence_s: float,
        statistics: Mapping[str, str] | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`interfaces`: served policy id to what it was trained on; `statistics`: to what it encodes with, where it says so."""
        super().__init__(name="control", daemon=True)
        self._socket = socket
        self._session = session
        self._interfaces = interfaces
        self._statistics = statistics or {}
        self._station_silence_s = station_silence_s
        self._build_silence_s = build_silence_s
        self._guard = guard
        self._peers: dict[str, _Peer] = {}
        self._intake = Intake(session=session)
        self._plans = PlanQueue(())
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_stopping = threading.Event()
        self._says_goodbye = True
        self.events: queue.SimpleQueue[ServerEvent] = queue.SimpleQueue()
        self.num_playing_policies = 0
        """Stations that play a policy's episode at the moment."""
        self.on_steered: Callable[[str, Steered], None] = lambda station_id, steered: None
        """Takes what stations say of what they were asked; called in this thread."""
        self.on_shown: Callable[[str, Shown, Mapping[str, Payload]], None] = lambda station_id, shown, arrays: None
        self.on_health: Callable[[str, Health], None] = lambda station_id, health: None

    def submit(self, plans: PlanQueue) -> None:
        """Assign these plans from now on; what is left of earlier ones is forgotten."""
        self._calls.put(lambda: setattr(self, "_plans", plans))

    def expect(self, station_id: str) -> None:
        """Watch over a station that was just started."""
        self._calls.put(lambda: self._expect(station_id))

    def remove(self, station_id: str) -> None:
        """Forget a station whose process is gone; a plan it leaves unfinished comes back as `Lost`."""
        self._calls.put(lambda: self._remove(station_id))

    def confirm(self, episode_id: str) -> None:
        """Note that an episode is safe with whoever took it from `events`: a station that spools it may forget it."""
        self._calls.put(lambda: self._confirm(episode_id))

    def steer(self, station_id: str, message: Steer) -> None:
        """Ask something of a station for an operator; the answer comes through `on_steered`."""
        self._calls.put(lambda: self._steer(station_id, message))

    def stop(self, *, says_goodbye: bool = True) -> None:
        """End; a goodbye tells stations that there is no more work, and without one they look for the next server."""
        self._says_goodbye = says_goodbye
        self._is_stopping.set()

    def run(self) -> None:
        try:
            while not self._is_stopping.is_set():
                self._turn()
            self._make_calls()  # what was just confirmed is acknowledged before the goodbye
            for station_id in self._peers if self._says_goodbye else ():
                send_to(self._socket, station_id.encode(), Bye(session=self._session))
        except Exception as error:  # noqa: BLE001  (the border of the thread: the session raises it)
            self.events.put(Failed(error))
        finally:
            self._socket.close(linger=GOODBYE_MS)

    def _turn(self) -> None:
        if wait(self._socket, timeout_s=POLL_S):
            received = receive_admitted(self._socket, self._guard)
            if received is not None:
                self._handle(*received[:2])
        self._make_calls()
        self._assign()
        self._report_silence()
        self.num_playing_policies = self._plans.num_playing_policies

    def _make_calls(self) -> None:
        while not self._calls.empty():
            self._calls.get()()

    def _handle(self, identity: bytes, frames: list[bytes | memoryview]) -> None:
        station_id, arrived_ns = identity.decode(errors="replace"), time.monotonic_ns()
        try:
            message, arrays = decode(frames, max_bytes=Plane.CONTROL.value.max_bytes)
            is_newcomer = message.session == ANY_SESSION and isinstance(message, Hello | Heartbeat)
            if message.session != self._session and not is_newcomer:
                raise LinkError(f"the station belongs to session {message.session}, this is {self._session}")
            if isinstance(message, Upload):
                self._take_in(station_id, played_from(message, arrays))
                episode_id = message.result.plan.episode_id
                send_to(self._socket, identity, UploadAck(session=self._session, episode_id=episode_id))
            elif isinstance(message, Hello):
                self._welcome(station_id, message)
            elif isinstance(message, Heartbeat):
                self._note_sign(station_id, message)
            elif isinstance(message, EpisodeMeta):
                send_to(self._socket, identity, self._intake.offer(station_id, message, self._plans))
            elif isinstance(message, Shard):
                self._add_piece(station_id, message, arrays)
            elif isinstance(message, Steered):
                self.on_steered(station_id, message)
            elif isinstance(message, Shown):
                self.on_shown(station_id, message, arrays)
            elif isinstance(message, TimePing):
                send_to(self._socket, identity, self._time(message, asked_ns=arrived_ns))
            else:
                raise LinkError(f"a station does not send {type(message).__name__}")
            self._peer(station_id).silence.heard()
        except LinkError as error:
            send_to(self._socket, identity, Reject(session=self._session, text=str(error)))
            self.events.put(Refused(f"{station_id}: {error}"))

    def _note_sign(self, station_id: str, sign: Heartbeat) -> None:
        """Answer a sign of life; a plan that its station has plainly not got is sent again."""
        peer = self._peer(station_id)
        peer.is_building = sign.is_building or not peer.is_welcome
        if sign.health is not UNSET:
            self.on_health(station_id, sign.health)
        send_to(self._socket, station_id.encode(), Heartbeat(session=self._session, boot_id=BOOT_ID))
        peer.num_idle = peer.num_idle + 1 if peer.plan is not None and sign.is_idle is True else 0
        if peer.plan is not None and peer.num_idle == NUM_IDLE_SIGNS:
            peer.num_idle = 0
            send_to(self._socket, station_id.encode(), Assign(session=self._session, plan=peer.plan))

    def _time(self, ping: TimePing, *, asked_ns: int) -> TimePong:
        return TimePong(session=self._session, t1_ns=ping.t1_ns, t2_ns=asked_ns, t3_ns=time.monotonic_ns(), boot_id=BOOT_ID)

    def _steer(self, station_id: str, message: Steer) -> None:
        known = [name for name, peer in self._peers.items() if peer.is_welcome]
        if station_id in known:
            send_to(self._socket, station_id.encode(), message)
            return
        text = f"no station {station_id!r} is here now.{near_matches(station_id, known) if known else ''}"
        steered = Steered(session=self._session, state="refused", command_id=message.command_id, text=text)
        self.on_steered(station_id, steered)

    def _expect(self, station_id: str) -> None:
        self._peer(station_id).is_expected = True

    def _peer(self, station_id: str) -> _Peer:
        return self._peers.setdefault(station_id, _Peer())

    def _welcome(self, station_id: str, message: Hello) -> None:
        if message.station_id != station_id:
            raise LinkError(f"a station that calls itself {message.station_id!r} came as {station_id!r}")
        try:
            for policy_id, interface in self._interfaces.items():
                require_fit(
                    policy=interface,
                    action_horizon=0,
                    statistics_id=self._statistics.get(policy_id, ""),
                    station=message.interface,
                    num_needed=0,  # the session checked what it serves against its own options
                    wanted_statistics="" if message.statistics_id is UNSET else message.statistics_id,
                    station_id=station_id,
                )
        except InterfaceMismatch as error:
            send_to(self._socket, station_id.encode(), Reject(session=self._session, text=str(error)))
            # A station of ours that does not fit means wrong options; one of others came to the wrong place.
            is_ours = self._peer(station_id).is_expected
            self.events.put(Failed(error) if is_ours else Refused(f"{station_id}: {error}"))
            return
        peer = self._peer(station_id)
        peer.is_welcome, peer.is_building = True, False
        self._lose_plan(station_id, peer)
        send_to(self._socket, station_id.encode(), Welcome(session=self._session))
        self.events.put(Connected(station_id))

    def _take_in(self, station_id: str, played: PlayedEpisode) -> bool:
        """Note a result and return whether it is the first of its plan."""
        episode_id = played.result.plan.episode_id
        is_first = self._plans.finish(station_id, episode_id)
        if is_first:
            self.events.put(Finished(station_id, played, self._plans))
        peer = self._peer(station_id)
        if peer.plan is None or peer.plan.episode_id == episode_id:
            peer.plan = None
        return is_first

    def _add_piece(self, station_id: str, shard: Shard, arrays: Mapping[str, Payload]) -> None:
        """Take a piece of a spooled episode in, and the episode once it is whole; only `confirm` acknowledges that."""
        answer = self._intake.add(station_id, shard, arrays)
        whole = self._intake.take(station_id)
        if isinstance(whole, PlayedEpisode):
            if not self._take_in(station_id, whole):
                self._confirm(shard.episode_id)
        elif whole is not None:
            answer = whole
        if answer is not None:
            send_to(self._socket, station_id.encode(), answer)

    def _confirm(self, episode_id: str) -> None:
        told = self._intake.confirm(episode_id)
        if told is not None:
            station_id, ack = told
            send_to(self._socket, station_id.encode(), ack)

    def _assign(self) -> None:
        for station_id, peer in self._peers.items():
            if not peer.is_welcome or peer.plan is not None or self.events.qsize() >= MAX_UNREAD_EPISODES:
                continue
            plan = self._plans.take(station_id, prefer_task=peer.last_task)
            if plan is None:
                return
            peer.plan, peer.last_task = plan, plan.task_id
            send_to(self._socket, station_id.encode(), Assign(session=self._session, plan=plan))

    def _remove(self, station_id: str) -> None:
        self._intake.forget(station_id)
        self._lose_plan(station_id, self._peers.pop(station_id, _Peer()))

    def _lose_plan(self, station_id: str, peer: _Peer) -> None:
        """Give the plan of a station that is gone, or that introduces itself anew, to whoever is free."""
        peer.plan = None
        lost = self._plans.lose(station_id)
        if lost is not None:
            self.events.put(Lost(station_id, lost))

    def _report_silence(self) -> None:
        for station_id, peer in self._peers.items():
            limit = self._build_silence_s if peer.is_building else self._station_silence_s
            if peer.silence.advance() > limit and not peer.is_reported_silent:
                peer.is_reported_silent = True
                self.events.put(Silent(station_id))


def raise_failure(error: Exception) -> None:
    """Raise what a server thread ended with."""
    if isinstance(error, OpenTauError):
        raise error
    raise RuntimeError(f"the server ended: {type(error).__name__}: {error}") from error
