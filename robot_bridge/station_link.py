"""The station's end of the link: one thread, one socket per plane, signs of life, and a deadline on every wait."""

from __future__ import annotations

import functools
import os
from collections import deque
from types import TracebackType
from typing import TypeVar

import zmq

from opentau.errors import LinkError
from opentau.types import EpisodePlan, Interface, PolicyRequest
from robot_bridge.config import StationConfig
from robot_bridge.link import Plane, dial, receive, send, wait
from robot_bridge.liveness import Silence
from robot_bridge.messages import (
    Assign,
    Bye,
    Chunk,
    ControlMessage,
    Heartbeat,
    Hello,
    Message,
    Obs,
    Reject,
    Upload,
    UploadAck,
    Welcome,
)
from robot_bridge.payloads import ChunkReply, PlayedEpisode, reply_from, request_arrays, subtask_runs

M = TypeVar("M", bound=Message)

POLL_S = 0.25


class Dismissed(Exception):
    """The server said goodbye, or the parent process is gone."""


class StationLink:
    """Talk to the server; implements `PolicyLink`. Not thread-safe."""

    def __init__(self, config: StationConfig) -> None:
        self._config = config
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(1)
        connect = functools.partial(dial, self._context, identity=config.station_id, credentials=config.credentials())
        self._control = connect(Plane.CONTROL, endpoint=config.control_endpoint)
        self._inference = connect(Plane.INFERENCE, endpoint=config.inference_endpoint)
        self._silence = Silence()
        self._since_heartbeat = Silence()
        self._inbox: deque[Message] = deque()
        self._seq = 0

    def __enter__(self) -> StationLink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for socket in (self._control, self._inference):
            socket.close(0)
        self._context.term()

    def hello(self, interface: Interface) -> None:
        """Introduce the station; raises `LinkError` with the server's words where it is refused."""
        self._send(Hello(session=self._config.session, station_id=self._config.station_id, interface=interface))
        self._await(Welcome)

    def next_plan(self) -> EpisodePlan:
        """Wait for a plan, as long as the server lives; raises `Dismissed` when there are no more."""
        while True:
            message = self._next_control(POLL_S)
            if isinstance(message, Assign):
                return message.plan
            self.keep_alive()

    def upload(self, played: PlayedEpisode) -> None:
        """Deliver a finished episode and return when the server has it."""
        message = Upload(
            session=self._config.session,
            result=played.result,
            prompt=played.prompt,
            env_id=played.env_id,
            num_clipped_actions=played.num_clipped_actions,
            num_fallbacks=played.num_fallbacks,
            num_refused_chunks=played.num_refused_chunks,
            subtasks=subtask_runs(played.episode),
        )
        columns = {} if played.episode is None else played.episode.columns()
        send(self._control, Plane.CONTROL, message, columns)
        episode_id = played.result.plan.episode_id
        while self._await(UploadAck).episode_id != episode_id:
            continue

    def keep_alive(self, *, is_building: bool = False) -> None:
        """Send a sign of life when one is due and notice whether the server and the parent still live."""
        if self._since_heartbeat.advance() >= self._config.heartbeat_s or is_building:
            self._since_heartbeat.heard()
            self._send(Heartbeat(session=self._config.session, is_building=is_building))
            self._read_control(0.0)
        if self._silence.advance() > self._config.server_silence_s:
            raise LinkError(f"the server has been silent for {self._config.server_silence_s:g} s")
        if self._config.parent_pid is not None and os.getppid() != self._config.parent_pid:
            raise Dismissed("the process that started this station is gone")

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def ask(self, plan: EpisodePlan, request: PolicyRequest, *, seq: int) -> None:
        """Send an observation to the policy that the plan names."""
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
        )
        send(self._inference, Plane.INFERENCE, message, request_arrays(request))

    def next_reply(self) -> ChunkReply:
        """Wait for a chunk."""
        waited = Silence()
        while not wait(self._inference, timeout_s=POLL_S):
            self.keep_alive()
            if waited.advance() > self._config.answer_timeout_s:
                raise LinkError(f"no chunk came within {self._config.answer_timeout_s:g} s")
        message, arrays = receive(self._inference, Plane.INFERENCE)
        if not isinstance(message, Chunk):
            raise LinkError(f"the server sent a {type(message).__name__} where a Chunk belongs")
        return reply_from(message, arrays)

    def _send(self, message: ControlMessage) -> None:
        send(self._control, Plane.CONTROL, message)

    def _await(self, kind: type[M]) -> M:
        """Wait for a control message of this kind; others are of no use any more and are dropped."""
        waited = Silence()
        while waited.advance() <= self._config.answer_timeout_s:
            message = self._next_control(POLL_S)
            if isinstance(message, kind):
                return message
            self.keep_alive()
        raise LinkError(f"the server has not sent a {kind.__name__} within {self._config.answer_timeout_s:g} s")

    def _next_control(self, timeout_s: float) -> Message | None:
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
            if message.session != self._config.session:
                raise LinkError(f"the server belongs to session {message.session}, this station to {self._config.session}")
            self._silence.heard()
            if isinstance(message, Bye):
                raise Dismissed("the server has no more work")
            if isinstance(message, Reject):
                raise LinkError(f"the server refuses this station: {message.text}")
            if not isinstance(message, Heartbeat):
                self._inbox.append(message)
