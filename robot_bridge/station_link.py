"""The station's end of the link: one thread, one socket per plane, signs of life, and a deadline on every wait."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar

import zmq
from msgspec import UNSET, structs

from opentau.errors import LinkError, PolicyError
from opentau.types import EpisodePlan, Interface, PolicyRequest
from robot_bridge.config import StationConfig
from robot_bridge.wire.clocks import BOOT_ID, PeerClock
from robot_bridge.wire.delivery import Delivered, deliver
from robot_bridge.wire.health import HealthMeter
from robot_bridge.wire.images import Encoding
from robot_bridge.wire.link import Plane, dial, receive, send, try_send, wait
from robot_bridge.wire.liveness import Silence
from robot_bridge.wire.messages import (
    ANY_SESSION,
    Assign,
    Bye,
    Chunk,
    ControlMessage,
    Heartbeat,
    Hello,
    Message,
    Obs,
    Payload,
    Reject,
    Stamp,
    State,
    Steer,
    TimePing,
    TimePong,
    UploadAck,
    Welcome,
)
from robot_bridge.wire.payloads import ChunkReply, PlayedEpisode, reply_from, request_arrays, upload_of
from robot_bridge.wire.spool import Spooled
from robot_bridge.wire.telemetry import TelemetryPublisher

M = TypeVar("M", bound=Message)

POLL_S = 0.25
ATTEND_S = 0.05
"""How soon what an operator asks is read."""
SEQ_BITS = 48
"""Of the number from which a program counts its requests."""
STATE_S, PREVIEW_S = 0.1, 0.25
"""Time between two words to viewers, and between two pictures."""


class Dismissed(Exception):
    """The server said goodbye, or the parent process is gone."""


class Refused(LinkError):
    """The server is there and does not want this station, or what it sent; trying again changes nothing."""


class StationLink:
    """Talk to the server; implements `PolicyLink`. Not thread-safe."""

    def __init__(self, config: StationConfig) -> None:
        self._config = config
        self._wanted_session = config.session
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(1)
        self._credentials = config.credentials()
        self._open()
        self._since_heartbeat, self._since_read = Silence(), Silence()
        self.on_steer: Callable[[Steer], None] = lambda steer: None
        """Takes what operators ask of this station, whenever the control socket is read."""
        self._seq = secrets.randbits(SEQ_BITS)  # an answer to who had this name before is none to this program
        self._jpeg_quality = config.jpeg_quality if config.image_encoding == Encoding.JPEG else None
        self._policy_version = ""
        self._schema_hash = self._limits_id = ""
        self._since_clock = Silence()
        self.server_clock = PeerClock()
        self.health = HealthMeter()
        """How this link does; travels with signs of life."""
        self.telemetry: TelemetryPublisher | None = None
        """Where this station tells viewers how it goes; None where nobody asked for it."""
        if config.telemetry_endpoint is not None:
            self.telemetry = TelemetryPublisher(
                self._context, endpoint=config.telemetry_endpoint, session=config.session, station_id=config.station_id
            )
        self._since_state, self._since_preview = Silence(), Silence()
        self._asked = State(session=config.session, station_id=config.station_id)

    def __enter__(self) -> StationLink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
        if self.telemetry is not None:
            self.telemetry.close()
        self._context.term()

    def _open(self) -> None:
        config = self._config
        connect = functools.partial(dial, self._context, identity=config.station_id, credentials=self._credentials)
        self._control = connect(Plane.CONTROL, endpoint=config.control_endpoint)
        self._inference = connect(Plane.INFERENCE, endpoint=config.inference_endpoint)
        self._silence = Silence()
        self._inbox: deque[Message] = deque()
        self._is_dismissed = self._is_idle = False
        self._hello: Hello | None = None
        self._server_boot_id = ""

    def _close(self) -> None:
        for socket in (self._control, self._inference):
            socket.close(0)

    def hello(self, interface: Interface, *, limits_id: str = "") -> None:
        """Introduce the station, a robot with its limits; raises `LinkError` with the server's words where it is refused."""
        self._schema_hash, self._limits_id = interface.hash(), limits_id
        config = self._config
        self._hello = Hello(
            session=config.session,
            station_id=config.station_id,
            interface=interface,
            statistics_id=config.statistics_id or UNSET,
            limits_id=limits_id or UNSET,
        )
        self.send_control(self._hello)
        welcome = self._await(Welcome)
        self._config = dataclasses.replace(config, session=welcome.session)
        self._asked = structs.replace(self._asked, session=welcome.session)
        if self.telemetry is not None:
            self.telemetry.session = welcome.session

    @property
    def session(self) -> str:
        """The server's session, once it has welcomed the station."""
        return self._config.session

    def dial_again(self, interface: Interface) -> None:
        """Start the link anew and introduce the station again; what was on its way is forgotten."""
        self._close()
        self._config = dataclasses.replace(self._config, session=self._wanted_session)
        self._open()
        self.hello(interface, limits_id=self._limits_id)

    def next_plan(self, *, within_s: float = math.inf) -> EpisodePlan | None:
        """Wait for a plan, as long as the server lives; None if none came in time. Raises `Dismissed` after the last one."""
        waited = Silence()
        try:
            while waited.advance() <= within_s:
                message = self.next_control(POLL_S)
                if isinstance(message, Assign):
                    return message.plan
                self._is_idle = True
                self.keep_alive()
            return None
        finally:
            self._is_idle = False

    def upload(self, played: PlayedEpisode) -> None:
        """Deliver a finished episode and return when the server has it."""
        message, columns = upload_of(played, session=self._config.session)
        send(self._control, Plane.CONTROL, message, columns)
        episode_id, assigned = played.result.plan.episode_id, list[Message]()
        while self._await(UploadAck, aside=assigned).episode_id != episode_id:
            continue
        for other in assigned:
            if isinstance(other, Assign) and other.plan.episode_id != episode_id:
                self.put_back(other)

    def deliver(self, spooled: Spooled) -> Delivered:
        """Offer a spooled episode and send what the server lacks of it; returns when its fate is known."""
        return deliver(self, spooled, session=self._config.session, timeout_s=self._config.answer_timeout_s)

    def keep_alive(self, *, is_building: bool = False) -> None:
        """Send a sign of life when one is due and notice whether the server and the parent still live."""
        if self._since_heartbeat.advance() >= self._config.heartbeat_s or is_building:
            self._since_heartbeat.heard()
            is_idle, health = self._is_idle or UNSET, self.health.health() or UNSET
            sign = Heartbeat(session=self._config.session, is_building=is_building, is_idle=is_idle, health=health)
            self._say_in_passing(sign)
            self._read_control(0.0)
        elif self._since_read.advance() >= ATTEND_S:
            self._since_read.heard()
            self._read_control(0.0)
        self._ask_for_the_time()
        if self.telemetry is not None and self._since_state.advance() >= STATE_S:
            self._since_state.heard()
            self.telemetry.state(self._asked)
        if self._silence.advance() > self._config.server_silence_s:
            raise LinkError(f"the server has been silent for {self._config.server_silence_s:g} s")
        if self._config.parent_pid is not None and os.getppid() != self._config.parent_pid:
            raise Dismissed("the process that started this station is gone")

    def _show(self, plan: EpisodePlan, request: PolicyRequest) -> None:
        """Let viewers see what the policy is asked about."""
        if self.telemetry is None:
            return
        tick = request.tick
        self._asked = structs.replace(self._asked, episode_id=plan.episode_id, tick=tick)
        if self._since_preview.advance() >= PREVIEW_S:
            self._since_preview.heard()
            for camera, pixels in request.observation.images.items():
                self.telemetry.preview(camera, pixels, tick=tick)

    def _ask_for_the_time(self) -> None:
        interval_s, is_welcome = self._config.clock_interval_s, self._config.session != ANY_SESSION
        if interval_s is not None and is_welcome and self._since_clock.advance() >= interval_s:
            self._since_clock.heard()
            self._say_in_passing(TimePing(session=self._config.session, t1_ns=time.monotonic_ns()))

    def wait_for_steers(self, timeout_s: float) -> None:
        """Have what arrives within this time received; the link stays alive."""
        self._read_control(timeout_s)
        self.keep_alive()

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def ask(self, plan: EpisodePlan, request: PolicyRequest, *, seq: int, t_obs_ns: int | None = None) -> None:
        """Send an observation to the policy that the plan names.

        `t_obs_ns`: when the oldest part of it was measured (`time.monotonic_ns`); None: just now.
        """
        now_ns = time.monotonic_ns()
        message = Obs(
            session=self._config.session,
            seq=seq,
            episode_id=plan.episode_id,
            policy_id=plan.policy_id,
            episode_seed=request.episode_seed,
            tick=request.tick,
            time_s=request.observation.time_s,
            prompt=request.observation.prompt,
            wants_value=plan.is_recorded or plan.is_supervised,
            stamp=Stamp(
                t_obs_ns=now_ns if t_obs_ns is None else t_obs_ns,
                t_send_ns=now_ns,
                boot_id=BOOT_ID,
                answer_within_ms=self._config.answer_within_ms,
                policy_version=self._policy_version,
                schema_hash=self._schema_hash,
            ),
        )
        arrays = request_arrays(request, jpeg_quality=self._jpeg_quality)
        if self._config.robot is None:
            send(self._inference, Plane.INFERENCE, message, arrays)
        else:  # a robot waits for nothing: what the server does not take now is as good as lost, and is asked again
            try_send(self._inference, Plane.INFERENCE, message, arrays)
        self._show(plan, request)

    def next_reply(self) -> ChunkReply:
        """Wait for a chunk; raises `PolicyError` where the last request will not be answered, in the server's words."""
        waited = Silence()
        while True:
            if wait(self._inference, timeout_s=POLL_S):
                if (reply := self._read_reply()) is not None:
                    return reply
                continue
            self.keep_alive()
            if waited.advance() > self._config.answer_timeout_s:
                raise LinkError(f"no chunk came within {self._config.answer_timeout_s:g} s")

    def arrived_reply(self) -> ChunkReply | None:
        """Return the next chunk that is here already, or None; raises `PolicyError` as `next_reply` does."""
        while wait(self._inference, timeout_s=0.0):
            if (reply := self._read_reply()) is not None:
                return reply
        return None

    def _read_reply(self) -> ChunkReply | None:
        """Return the chunk that is there; None for a refusal of an earlier request, which changes nothing any more."""
        message, arrays = receive(self._inference, Plane.INFERENCE)
        if isinstance(message, Reject) and message.seq is not UNSET:
            if message.seq == self._seq:
                raise PolicyError(f"the policy does not answer this station: {message.text}")
            return None
        if not isinstance(message, Chunk):
            raise LinkError(f"the server sent a {type(message).__name__} where a Chunk belongs")
        self._policy_version = message.policy_version
        reply = reply_from(message, arrays, now_ns=time.monotonic_ns())
        if reply.timing is not None:
            timing = reply.timing
            self.health.add(timing)
            self._asked = structs.replace(self._asked, rtt_ms=timing.net_ms, obs_age_ms=timing.obs_age_ms)
        return reply

    def send_control(self, message: ControlMessage, arrays: Mapping[str, Payload] | None = None) -> None:
        send(self._control, Plane.CONTROL, message, arrays)

    def _say_in_passing(self, message: ControlMessage) -> None:
        """Send what is worth nothing later; a robot must not stand still because a server that is gone takes nothing."""
        try_send(self._control, Plane.CONTROL, message)

    def _await(self, kind: type[M], *, aside: list[Message] | None = None) -> M:
        """Wait for a control message of this kind; others are laid aside, or dropped as of no use any more."""
        waited = Silence()
        while waited.advance() <= self._config.answer_timeout_s:
            message = self.next_control(POLL_S)
            if isinstance(message, kind):
                return message
            if message is not None and aside is not None:
                aside.append(message)
            self.keep_alive()
        raise LinkError(f"the server has not sent a {kind.__name__} within {self._config.answer_timeout_s:g} s")

    def _note_server(self, sign: Heartbeat) -> None:
        """Introduce the station to a server that took an earlier one's place; whatever is being played goes on."""
        if sign.boot_id is UNSET:
            return
        is_another = self._server_boot_id not in ("", sign.boot_id)
        self._server_boot_id = sign.boot_id
        if is_another and self._hello is not None:
            self.send_control(self._hello)

    def put_back(self, message: Message) -> None:
        """Have a message come again from `next_control`."""
        self._inbox.append(message)

    def next_control(self, timeout_s: float) -> Message | None:
        """Return the next message that asks for something, or None."""
        if not self._inbox:
            self._read_control(timeout_s)
        return self._inbox.popleft() if self._inbox else None

    def _read_control(self, timeout_s: float) -> None:
        """Move what has arrived to the inbox; signs of life are only noted.

        Raises `Dismissed` for a goodbye and `LinkError` where the server refuses this station or what it sent.
        """
        while wait(self._control, timeout_s=timeout_s):
            timeout_s = 0.0
            message, _ = receive(self._control, Plane.CONTROL)
            if self._config.session not in (message.session, ANY_SESSION):
                if self._wanted_session == ANY_SESSION:
                    raise LinkError(f"the server was started anew, as session {message.session}")
                raise Refused(f"the server belongs to session {message.session}, this station to {self._config.session}")
            self._silence.heard()
            if isinstance(message, Bye):
                self._is_dismissed = True
                self._inbox = deque(waiting for waiting in self._inbox if isinstance(waiting, UploadAck))
                break
            if isinstance(message, Reject):
                raise Refused(f"the server refuses this station: {message.text}")
            if isinstance(message, TimePong):
                self.server_clock.add(message, now_ns=time.monotonic_ns())
            elif isinstance(message, Steer):
                self.on_steer(message)
            elif isinstance(message, Heartbeat):
                self._note_server(message)
            else:
                self._inbox.append(message)
        if self._is_dismissed and not self._inbox:  # an acknowledgement before the goodbye still counts
            raise Dismissed("the server has no more work")
