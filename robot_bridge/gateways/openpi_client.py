"""A policy that an openpi server offers, seen from here as any other policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from opentau.errors import LinkError, PolicyError, RobotError
from opentau.types import ActionChunk, Interface, PolicyRequest
from robot_bridge.gateways.openpi_wire import MAX_BYTES, OpenPiNames, array, pack, unpack


class OpenPiPolicy:
    """Ask an openpi server (protocol `Policy`) while the context is open; one request at a time, each with a deadline.

    openpi's protocol knows no seeds: answers need not repeat, and episodes played by such a policy are no function of their
    plan. Nor does it tell what the server was trained on: names and units are the user's word, lengths are checked.
    """

    def __init__(
        self,
        url: str,
        *,
        interface: Interface,
        names: OpenPiNames,
        action_horizon: int,
        policy_version: str,
        api_key: str | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        unknown = sorted(set(names.cameras) - set(interface.cameras))
        if unknown:
            raise LinkError(f"the robot has the cameras {sorted(interface.cameras)}, not {unknown}; correct `cameras`")
        self.interface = interface
        self.action_horizon = action_horizon
        self.policy_version = policy_version
        self.metadata: dict[str, Any] = {}
        """What the server said of itself."""
        self._url = url
        self._names = names
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._timeout_s = timeout_s

    def __enter__(self) -> OpenPiPolicy:
        try:
            from websockets.exceptions import WebSocketException  # the extra `gateway`
            from websockets.sync.client import connect
        except ImportError as error:
            raise RobotError("openpi's protocol needs the extra `gateway` (websockets), which is not installed") from error
        self._broken = (WebSocketException, OSError)
        try:
            self._connection = connect(
                self._url,
                compression=None,
                max_size=MAX_BYTES,
                additional_headers=self._headers,
                open_timeout=self._timeout_s,
            )
        except (ValueError, *self._broken) as error:
            raise LinkError(
                f"no openpi server answers at {self._url}: {error}. Is it running, and is the address right?"
            ) from error
        self.metadata = self._receive("its metadata")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        """Return one chunk per request; raises `PolicyError` where the server refuses, is silent or answers rubbish."""
        return [self._ask(request) for request in requests]

    def _ask(self, request: PolicyRequest) -> ActionChunk:
        try:
            self._connection.send(pack(self._observation(request)))
        except self._broken as error:
            raise PolicyError(f"the openpi server at {self._url} is gone: {error}") from error
        answer = self._receive(f"a chunk for tick {request.tick}")
        try:
            actions = array(answer, "actions", dtype="float32", num_dims=2)
        except LinkError as error:
            raise PolicyError(f"the openpi server at {self._url} answered rubbish: {error}") from error
        wanted = (self.action_horizon, self.interface.action_dim)
        if actions.shape != wanted or not np.isfinite(actions).all():
            raise PolicyError(
                f"the openpi server at {self._url} answered actions of shape {actions.shape}"
                f"{'' if np.isfinite(actions).all() else ' that are not finite'}; expected are {wanted} finite numbers. "
                "Correct action_horizon, or serve the policy of this robot"
            )
        return ActionChunk(actions=actions, policy_version=self.policy_version)

    def _observation(self, request: PolicyRequest) -> Mapping[str, Any]:
        seen, names = request.observation, self._names
        images = {key: seen.images[camera] for camera, key in names.cameras.items()}
        if names.is_mirrored:
            images = {key: pixels[:, ::-1] for key, pixels in images.items()}
        return {**images, names.state: seen.state, names.prompt: seen.prompt}

    def _receive(self, what: str) -> dict[str, Any]:
        try:
            message = self._connection.recv(timeout=self._timeout_s)
        except TimeoutError as error:
            raise PolicyError(f"the openpi server at {self._url} has not sent {what} within {self._timeout_s:g} s") from error
        except self._broken as error:
            raise PolicyError(f"the openpi server at {self._url} closed instead of sending {what}: {error}") from error
        if isinstance(message, str):
            raise PolicyError(f"the openpi server at {self._url} refuses: {message.strip()[-2000:]}")
        try:
            return unpack(message)
        except LinkError as error:
            raise PolicyError(f"the openpi server at {self._url} answered rubbish: {error}") from error
