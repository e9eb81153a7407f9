"""A policy of ours for robots that speak openpi's websocket protocol (openpi-client and what is built on it)."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any

import numpy as np

from opentau.errors import LinkError, OpenTauError, RobotError
from opentau.protocols import Policy
from opentau.types import Observation, PolicyRequest, derive_seed
from robot_bridge.gateways.openpi_wire import MAX_BYTES, OpenPiNames, array, pack, unpack
from robot_bridge.wire.link import require_loopback

HEALTH = "/healthz"


class OpenPiServer:
    """Answer openpi clients for as long as the context is open; one thread a client, one answer at a time.

    A client's connection is an episode: its number and the count of its requests make the flow noise, as seed and tick do
    elsewhere. The protocol has neither identities nor encryption, so that it listens on loopback addresses only.
    """

    def __init__(self, policy: Policy, *, names: OpenPiNames, host: str = "127.0.0.1", port: int = 0, seed: int = 0) -> None:
        """Raises `LinkError` for any address but a loopback one and for cameras that the policy does not know."""
        require_loopback(host)
        unknown = sorted(set(names.cameras) ^ set(policy.interface.cameras))
        if unknown:
            raise LinkError(f"the policy sees {sorted(policy.interface.cameras)}; name openpi's key of each, not {unknown}")
        self._policy = policy
        self._names = names
        self._host, self._port = host, port
        self._seed = seed
        self._turn = threading.Lock()
        self._num_clients = 0
        self.num_answers = 0

    def __enter__(self) -> OpenPiServer:
        try:
            from websockets.sync.server import serve  # the extra `gateway`
        except ImportError as error:
            raise RobotError("openpi's protocol needs the extra `gateway` (websockets), which is not installed") from error
        self._server = serve(
            self._serve_client,
            self._host,
            self._port,
            compression=None,
            max_size=MAX_BYTES,
            process_request=_answer_health,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="openpi", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where clients dial."""
        host, port = self._server.socket.getsockname()[:2]
        return f"ws://{host}:{port}"

    def _serve_client(self, connection: Any) -> None:
        with self._turn:
            self._num_clients += 1
            episode_seed = derive_seed(self._seed, "openpi", self._num_clients)
        connection.send(pack(self._metadata()))
        for tick, message in enumerate(connection):
            try:
                answer = self._answer(message, episode_seed=episode_seed, tick=tick)
            except OpenTauError as error:
                connection.send(str(error))  # a text frame is openpi's sign of an error
                connection.close(1011, "the request was refused")
                return
            connection.send(answer)

    def _metadata(self) -> dict[str, Any]:
        interface = self._policy.interface
        return {
            "policy_version": self._policy.policy_version,
            "action_horizon": self._policy.action_horizon,
            "action_names": list(interface.action_names),
            "action_space": interface.action_space,
            "control_hz": interface.control_hz,
        }

    def _answer(self, message: str | bytes, *, episode_seed: int, tick: int) -> bytes:
        if isinstance(message, str):
            raise LinkError("a text frame was refused; observations come as MessagePack")
        observation = self._observation(unpack(message))
        request = PolicyRequest(observation=observation, episode_seed=episode_seed, tick=tick)
        with self._turn:
            started = time.perf_counter()
            chunk = self._policy.infer([request])[0]
            infer_ms = 1000 * (time.perf_counter() - started)
            self.num_answers += 1
        return pack({"actions": np.asarray(chunk.actions, np.float32), "server_timing": {"infer_ms": infer_ms}})

    def _observation(self, plain: Mapping[str, Any]) -> Observation:
        interface, names = self._policy.interface, self._names
        images = {camera: array(plain, key, dtype="uint8", num_dims=3) for camera, key in names.cameras.items()}
        state = array(plain, names.state, dtype="float32", num_dims=1)
        expected: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
            (names.cameras[camera], interface.cameras[camera], pixels.shape) for camera, pixels in images.items()
        ]
        expected.append((names.state, (interface.state_dim,), state.shape))
        wrong = [f"{key}: {wanted} is expected, {sent} was sent" for key, wanted, sent in expected if wanted != sent]
        if wrong:
            raise LinkError("the client does not fit the policy: " + "; ".join(wrong))
        if names.is_mirrored:
            images = {camera: np.ascontiguousarray(pixels[:, ::-1]) for camera, pixels in images.items()}
        prompt = plain.get(names.prompt)
        if not isinstance(prompt, str):
            raise LinkError(f"a message without the text {names.prompt!r} was refused; it brings {sorted(plain)}")
        return Observation(images=images, state=state, prompt=prompt, time_s=0.0)


def _answer_health(connection: Any, request: Any) -> Any:
    """Answer openpi's question whether the server is there, without a websocket."""
    return connection.respond(HTTPStatus.OK, "OK\n") if request.path == HEALTH else None
