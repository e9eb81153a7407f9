"""The inference plane of the server: a thread that answers observations of many stations by one policy call a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import zmq
from msgspec import structs

from opentau.errors import LinkError, OpenTauError, PolicyError
from opentau.protocols import ContinuingPolicy, Critic, Policy
from opentau.types import ActionChunk, PolicyRequest
from robot_bridge.security.authority import Guard
from robot_bridge.wire.clocks import BOOT_ID
from robot_bridge.wire.link import Plane, receive_admitted, send_to, wait
from robot_bridge.wire.messages import Chunk, Obs, Reject, decode
from robot_bridge.wire.payloads import request_from

IDLE_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    identity: bytes
    message: Obs
    request: PolicyRequest
    arrived_ns: int
    """This process's monotonic clock."""

    def is_of_use(self, now_ns: int) -> bool:
        """Return whether whoever asked would still play an answer that is begun now."""
        stamp = self.message.stamp
        if stamp is None or stamp.answer_within_ms is None:
            return True
        return now_ns - self.arrived_ns <= stamp.answer_within_ms * 1e6


class InferenceServer(threading.Thread):
    """Own the inference socket; gather, infer, answer.

    `num_playing()` says how many stations may ask at the moment: when all of them wait, nobody is waited for.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        *,
        session: str,
        policies: Mapping[str, Policy],
        critic: Critic | None,
        batch_size: int,
        gather_s: float,
        num_playing: Callable[[], int],
        on_error: Callable[[Exception], None],
        on_refused: Callable[[str], None],
        guard: Guard | None = None,
    ) -> None:
        super().__init__(name="inference", daemon=True)
        self._socket = socket
        self._session = session
        self._policies = policies
        self._critic = critic
        self._batch_size = batch_size
        self._gather_s = gather_s
        self._num_playing = num_playing
        self._on_error = on_error
        self._on_refused = on_refused
        self._guard = guard
        self._is_stopping = threading.Event()

    def stop(self) -> None:
        """End after the batch at work."""
        self._is_stopping.set()

    def run(self) -> None:
        try:
            while not self._is_stopping.is_set():
                if wait(self._socket, timeout_s=IDLE_POLL_S):
                    self._answer(self._gather())
        except Exception as error:  # noqa: BLE001  (the border of the thread: the session raises it)
            self._on_error(error)
        finally:
            self._socket.close(0)

    def _gather(self) -> list[_Row]:
        """Read what waits and, for a short while, what comes; of two requests of one station the newer counts."""
        deadline = time.monotonic() + self._gather_s
        rows: dict[bytes, _Row] = {}
        while True:
            while wait(self._socket, timeout_s=0.0):
                row = self._read()
                if row is not None:
                    rows[row.identity] = row
            remaining = deadline - time.monotonic()
            if len(rows) >= self._num_playing() or remaining <= 0.0:
                return list(rows.values())
            self._socket.poll(max(1, int(remaining * 1000)), zmq.POLLIN)

    def _read(self) -> _Row | None:
        received = receive_admitted(self._socket, self._guard)
        if received is None:
            return None
        identity, frames, _ = received
        arrived_ns = time.monotonic_ns()
        try:
            message, arrays = decode(frames, max_bytes=Plane.INFERENCE.value.max_bytes)
            if not isinstance(message, Obs) or message.session != self._session:
                raise LinkError(f"a {type(message).__name__} of session {message.session} does not belong here")
            if message.policy_id not in self._policies:
                raise LinkError(f"policy {message.policy_id!r} is not served; served are {sorted(self._policies)}")
            request = request_from(message, arrays)
        except LinkError as error:
            self._on_refused(f"{identity.decode(errors='replace')}: {error}")
            return None
        refusal = refusal_of(request, self._policies[message.policy_id])
        if refusal:  # which ends the station's episode, and nobody else's
            self._on_refused(f"{identity.decode(errors='replace')}, episode {message.episode_id}: {refusal}")
            send_to(self._socket, identity, Reject(session=self._session, seq=message.seq, text=refusal))
            return None
        return _Row(identity=identity, message=message, request=request, arrived_ns=arrived_ns)

    def _answer(self, rows: list[_Row]) -> None:
        for policy_id, batch in self._batches(rows):
            started_ns = time.monotonic_ns()
            chunks = self._infer(policy_id, [row.request for row in batch])
            values = self._values(batch)
            infer_ms = (time.monotonic_ns() - started_ns) / 1e6
            for row, chunk in zip(batch, chunks, strict=True):
                queue_ms = (started_ns - row.arrived_ns) / 1e6
                self._send(row, chunk, value=values.get(row.identity), infer_ms=infer_ms, queue_ms=queue_ms)

    def _batches(self, rows: list[_Row]) -> Iterator[tuple[str, list[_Row]]]:
        for policy_id in sorted({row.message.policy_id for row in rows}):
            same = [row for row in rows if row.message.policy_id == policy_id]
            for start in range(0, len(same), self._batch_size):
                batch = [row for row in same[start : start + self._batch_size] if row.is_of_use(time.monotonic_ns())]
                if batch:
                    yield policy_id, batch

    def _infer(self, policy_id: str, requests: list[PolicyRequest]) -> list[ActionChunk]:
        policy = self._policies[policy_id]
        try:
            chunks = policy.infer(requests)
        except OpenTauError:
            raise
        except Exception as error:
            ticks = sorted(request.tick for request in requests)
            raise PolicyError(
                f"policy {policy_id!r} ({policy.policy_version}) failed on {len(requests)} observations of ticks {ticks}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if len(chunks) != len(requests):
            raise PolicyError(f"policy {policy_id!r} answered {len(requests)} observations with {len(chunks)} chunks")
        return chunks

    def _values(self, batch: list[_Row]) -> dict[bytes, float]:
        wanting = [row for row in batch if row.message.wants_value]
        if self._critic is None or not wanting:
            return {}
        values = self._critic.values([row.request for row in wanting])
        return {row.identity: float(value) for row, value in zip(wanting, values, strict=True)}

    def _send(self, row: _Row, chunk: ActionChunk, *, value: float | None, infer_ms: float, queue_ms: float) -> None:
        asked = row.message
        message = Chunk(
            session=self._session,
            seq=asked.seq,
            episode_id=asked.episode_id,
            policy_version=chunk.policy_version,
            value=value,
            infer_ms=infer_ms,
            subtask=chunk.subtask,
            fallback=chunk.fallback,
        )
        if asked.stamp is not None:
            message = structs.replace(
                message,
                queue_ms=queue_ms,
                t_obs_ns=asked.stamp.t_obs_ns,
                t_send_ns=asked.stamp.t_send_ns,
                boot_id=BOOT_ID,
            )
        send_to(self._socket, row.identity, message, {"actions": np.asarray(chunk.actions, np.float32)})


def refusal_of(request: PolicyRequest, policy: Policy) -> str:
    """Return why a policy cannot answer what a station asks; '' where it can."""
    interface = policy.interface
    if request.observation.state.shape != (interface.state_dim,):
        return f"the state has {len(request.observation.state)} numbers; the policy knows {interface.state_dim}"
    if request.prefix is None:
        return ""
    count, action_dim = request.prefix.shape
    if action_dim != interface.action_dim:
        return f"committed actions have {action_dim} numbers; the policy's have {interface.action_dim}"
    largest = policy.action_horizon - 1
    if isinstance(policy, ContinuingPolicy):
        largest = min(largest, policy.max_committed)
    if count <= largest:
        return ""
    return (
        f"the request commits {count} actions; the policy continues at most {largest}. In the station's file set "
        f"chunking.max_prefix to {largest} (the robot holds where the delay is longer) or chunking.mode to blend; or serve "
        "with inference.committed=guided, or train with a larger policy.max_committed"
    )
