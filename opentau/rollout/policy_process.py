"""A policy in a process of its own, in whatever environment it needs: started, asked over the bridge's protocol, ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import zmq

from opentau.errors import LinkError, PolicyError
from opentau.types import ActionChunk, Interface, PolicyRequest
from robot_bridge.wire.link import Plane, dial, receive, send, wait
from robot_bridge.wire.liveness import Silence
from robot_bridge.wire.messages import AnyMessage, Bye, Chunk, Hello, Message, Obs, Offer, Payload, Reject
from robot_bridge.wire.payloads import reply_from, request_arrays

POLL_S = 0.25
GRACE_S = 2.0
NUM_LAST_LINES = 12

Command = Callable[[Sequence[str]], Sequence[str]]
"""From the arguments that every such program takes to the whole command."""


class PolicyProcess:
    """Starts a policy's process when it is entered, forwards what it is asked (protocol `Policy`), and ends the process.

    The process answers one request at a time, so that an answer cannot depend on its company. Enter and leave it from one
    thread: the process dies with the thread that started it (Linux).
    """

    policy_version: str
    action_horizon: int

    def __init__(
        self,
        command: Command,
        *,
        interface: Interface,
        camera_keys: Mapping[str, str],
        policy_version: str,
        environment: Callable[[Path], Mapping[str, str]],
        log_path: Path,
        max_committed: int = 0,
        start_timeout_s: float = 900.0,
        answer_timeout_s: float = 120.0,
    ) -> None:
        """`camera_keys`: camera of the interface to the policy's own name of it. `environment`: variables, given a folder.

        `max_committed`: most committed actions that the process continues.
        """
        self.interface = interface
        self.max_committed = max_committed
        self.policy_version = policy_version
        self._command = command
        self._camera_keys = dict(camera_keys)
        self._environment = environment
        self._log_path = log_path
        self._start_timeout_s = start_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._session = secrets.token_hex(8)
        self._seq = 0

    def __enter__(self) -> PolicyProcess:
        self._folder = tempfile.TemporaryDirectory(prefix="opentau-policy-")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start(Path(self._folder.name))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    @property
    def pid(self) -> int:
        assert self._process is not None, "a policy is entered before it is used"
        return self._process.pid

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        """Return one chunk per request; raises `PolicyError` when the process is gone, silent, refuses or answers rubbish."""
        return [self._ask(request) for request in requests]

    def _start(self, folder: Path) -> None:
        endpoint_file = folder / "endpoint"
        arguments = ["--session", self._session, "--endpoint-file", str(endpoint_file)]
        arguments += ["--policy-version", self.policy_version, "--parent-pid", str(os.getpid())]
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                list(self._command(arguments)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._environment(folder / "packages")),
            )
        deadline = time.monotonic() + self._start_timeout_s
        while not endpoint_file.is_file():
            self._require_alive()
            if time.monotonic() > deadline:
                raise PolicyError(
                    f"the policy's process does not listen after {self._start_timeout_s:g} s: {self._last_lines()}"
                )
            time.sleep(0.05)
        endpoint = endpoint_file.read_text(encoding="utf-8")
        self._socket = dial(self._context, Plane.INFERENCE, endpoint=endpoint, identity="rollout")
        self._shake_hands()

    def _shake_hands(self) -> None:
        cameras = {self._camera_keys[camera]: shape for camera, shape in self.interface.cameras.items()}
        named = dataclasses.replace(self.interface, cameras=cameras)
        send(self._socket, Plane.INFERENCE, Hello(session=self._session, station_id="rollout", interface=named))
        offer, _ = self._await(self._start_timeout_s)
        if not isinstance(offer, Offer) or offer.policy_version != self.policy_version or offer.action_horizon < 1:
            raise PolicyError(f"the policy's process answered a hello with {offer}; it must offer policy {self.policy_version}")
        self.action_horizon = offer.action_horizon

    def _ask(self, request: PolicyRequest) -> ActionChunk:
        self._seq += 1
        seen = request.observation
        images = {self._camera_keys[camera]: seen.images[camera] for camera in self.interface.cameras}
        asked = dataclasses.replace(request, observation=dataclasses.replace(seen, images=images))
        message = Obs(
            session=self._session,
            seq=self._seq,
            episode_id=f"seed-{request.episode_seed}",
            policy_id="policy",
            episode_seed=request.episode_seed,
            tick=request.tick,
            time_s=seen.time_s,
            prompt=seen.prompt,
            wants_value=False,
        )
        send(self._socket, Plane.INFERENCE, message, request_arrays(asked))
        answer, arrays = self._await(self._answer_timeout_s)
        if not isinstance(answer, Chunk) or answer.seq != self._seq:
            raise PolicyError(f"the policy's process answered request {self._seq} with {answer}; it must send its chunk")
        chunk = reply_from(answer, arrays).chunk
        self._require_well_formed(chunk, tick=request.tick)
        return chunk

    def _require_well_formed(self, chunk: ActionChunk, *, tick: int) -> None:
        wanted = (self.action_horizon, self.interface.action_dim)
        if chunk.actions.shape != wanted or not np.isfinite(chunk.actions).all():
            raise PolicyError(
                f"policy {self.policy_version} answered the observation of tick {tick} with actions of shape "
                f"{chunk.actions.shape}{'' if np.isfinite(chunk.actions).all() else ' that are not finite'}; a chunk is "
                f"{wanted} finite numbers. Its training or its statistics are broken: use another checkpoint"
            )

    def _await(self, timeout_s: float) -> tuple[AnyMessage, dict[str, Payload]]:
        """Wait for a message of the process; raises `PolicyError` with its words where it refuses or is gone."""
        silence = Silence()
        while not wait(self._socket, timeout_s=POLL_S):
            self._require_alive()
            if silence.advance() > timeout_s:
                raise PolicyError(f"the policy's process has not answered within {timeout_s:g} s: {self._last_lines()}")
        try:
            message, arrays = receive(self._socket, Plane.INFERENCE)
        except LinkError as error:
            raise PolicyError(f"the policy's process sent what is no message: {error}") from error
        self._require_ours(message)
        if isinstance(message, Reject):
            raise PolicyError(f"the policy's process refuses: {message.text}")
        return message, arrays

    def _require_ours(self, message: Message) -> None:
        if message.session != self._session:
            raise PolicyError(f"the policy's process answers for session {message.session}, this is {self._session}")

    def _require_alive(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        why = f"exit code {code}" if code >= 0 else f"signal {-code}"
        raise PolicyError(
            f"the policy's process {self._process.pid} ended ({why}). Its last words: "
            + (self._last_lines() or "none (was it killed for want of memory?)")
        )

    def _last_lines(self) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines() if self._log_path.is_file() else []
        return "\n".join(lines[-NUM_LAST_LINES:])

    def _end(self) -> None:
        """Say goodbye and wait a little, then end the process; nothing of it is left."""
        try:
            if self._process is not None and self._process.poll() is None and hasattr(self, "_socket"):
                with contextlib.suppress(LinkError, zmq.ZMQError):
                    send(self._socket, Plane.INFERENCE, Bye(session=self._session))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(GRACE_S)
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._context.destroy(linger=0)
            self._folder.cleanup()
