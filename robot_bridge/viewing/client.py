"""Follow and steer a run on another machine: a `RunClient` over the bridge."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, TypeVar

import numpy as np
import zmq

from opentau.control import VERBS, Command, local_operator
from opentau.errors import LeaseError, LinkError
from opentau.events import parse_event
from opentau.lease import LEASE_S
from robot_bridge.security.keys import NUMBER_MARK, ClientCredentials
from robot_bridge.viewing.desk import SESSION
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.link import Plane, dial, receive, send, wait
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
)

M = TypeVar("M", bound=Message)

ANSWER_S = 10.0


class RemoteRunClient:
    """Ask the run for what is new, and operate it under a lease that is taken with the first command; not thread-safe."""

    def __init__(self, endpoint: str, *, credentials: ClientCredentials | None = None, answer_s: float = ANSWER_S) -> None:
        """`endpoint`: tcp://HOST:PORT, as the run prints it."""
        self._endpoint = endpoint
        self._answer_s = answer_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        name = local_operator() if credentials is None else credentials.pair.name
        identity = f"{name}{NUMBER_MARK}{secrets.token_hex(4)}"
        self._socket = dial(self._context, Plane.VIEWING, endpoint=endpoint, identity=identity, credentials=credentials)
        self._positions: dict[str, int] = {}
        self._seq = 0
        self._lease_id, self._lease_ends = "", 0.0

    def __enter__(self) -> RemoteRunClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.release()
        self._context.destroy(linger=0)

    def new_events(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the events not returned before, in time order; raises `LinkError` where nobody answers.

        With `limit`, no further block is asked for once there are so many.
        """
        events: list[dict[str, Any]] = []
        while True:
            self._seq += 1
            send(self._socket, Plane.VIEWING, Follow(session=SESSION, seq=self._seq, positions=self._positions))
            answer, lines = self._await(EventBlock)
            self._positions = answer.positions
            events += [event for line in lines.splitlines() if (event := parse_event(line)) is not None]
            if not lines or (limit is not None and len(events) >= limit):
                return sorted(events, key=lambda event: event["t"])

    def send(self, command: Command) -> None:
        """Pass a command to the run; raises `LeaseError` where it is refused. The same id is never obeyed twice."""
        if VERBS[command.verb].needs_lease and time.monotonic() > self._lease_ends - LEASE_S / 2:
            self._take_lease()
        order = Order(
            session=SESSION,
            command_id=command.command_id,
            verb=command.verb,
            args=dict(command.args),
            lease_id=self._lease_id,
        )
        send(self._socket, Plane.VIEWING, order)
        answer, _ = self._await(OrderAnswer)
        if not answer.is_accepted and not answer.is_repeated:
            raise LeaseError(f"the run refuses {command.verb}: {answer.text}")

    def renew(self) -> None:
        """Hold the lease for longer, or take it again; raises `LeaseError` while another operator holds it."""
        asked = time.monotonic()
        if self._lease_id and self._change_lease("renew").lease_id:
            self._lease_ends = asked + LEASE_S
        else:
            self._take_lease()

    def release(self) -> None:
        """Give the lease back, if it is held."""
        if self._lease_id:
            self._change_lease("release")
            self._lease_id, self._lease_ends = "", 0.0

    def keep(self) -> None:
        """Leave the lease as it is when the client ends."""
        self._lease_id, self._lease_ends = "", 0.0

    def look(self, station: str) -> tuple[str, int, dict[str, np.ndarray], tuple[float, ...]] | None:
        """Return what a station shows whoever has it in hand: episode, step, camera to uint8 [Y, X, 3], state.

        None where it shows nothing; raises `LinkError` where nobody answers, or with what is no picture.
        """
        self._seq += 1
        send(self._socket, Plane.VIEWING, Look(session=SESSION, seq=self._seq, station_id=station))
        answer, arrays = self._answer(Seen)
        if not answer.episode_id:
            return None
        images = {
            name.removeprefix("images."): array.pixels() for name, array in arrays.items() if isinstance(array, CodedImage)
        }
        state = arrays.get("state")
        numbers = np.asarray(state, np.float64).ravel().tolist() if isinstance(state, np.ndarray) else []
        return answer.episode_id, answer.tick, images, tuple(numbers)

    def _take_lease(self) -> None:
        asked = time.monotonic()
        answer = self._change_lease("acquire")
        if not answer.lease_id:
            raise LeaseError(f"the run gives no lease: {answer.text}")
        self._lease_id, self._lease_ends = answer.lease_id, asked + LEASE_S

    def _change_lease(self, action: Literal["acquire", "renew", "release"]) -> LeaseAnswer:
        self._seq += 1
        send(
            self._socket,
            Plane.VIEWING,
            LeaseRequest(session=SESSION, seq=self._seq, action=action, lease_id=self._lease_id),
        )
        return self._await(LeaseAnswer)[0]

    def _await(self, kind: type[M]) -> tuple[M, bytes]:
        """Wait for the answer to what was asked last; return it with its lines of text."""
        message, arrays = self._answer(kind)
        return message, np.asarray(arrays["lines"]).tobytes() if "lines" in arrays else b""

    def _answer(self, kind: type[M]) -> tuple[M, Mapping[str, Payload]]:
        """Wait for the answer to what was asked last; earlier answers that came too late are dropped."""
        deadline = time.monotonic() + self._answer_s
        while wait(self._socket, timeout_s=deadline - time.monotonic()):
            message, arrays = receive(self._socket, Plane.VIEWING)
            if isinstance(message, kind) and getattr(message, "seq", self._seq) == self._seq:
                return message, arrays
        raise LinkError(
            f"{self._endpoint} has not answered for {self._answer_s:g} s. Is the run still going, and does it trust this "
            "machine's key as operator or viewer? Its audit events say whom it refused"
        )
