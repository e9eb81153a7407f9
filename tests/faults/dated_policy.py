"""A policy whose every action says which request it answers, and the same in a process of its own."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zmq

from envs.twin.environment import interface
from opentau.checkpoint import write_text
from opentau.types import ActionChunk, Interface, PolicyRequest
from robot_bridge.parents import die_with_parent
from robot_bridge.wire.link import Plane, bind, receive_from, send_to
from robot_bridge.wire.messages import Bye, Chunk, Hello, Offer, decode
from robot_bridge.wire.payloads import request_from
from tests.faults.twin_arm import SIZE

HORIZON = 24
TICK, INDEX, EPISODE = 0, 1, 2
"""Action dimensions that tell the tick of the observation, the place in the chunk and the episode."""
SCALE = 0.25
"""Degrees for each tick, so that what is told is also a path that an arm can follow; exact in float32."""


def episode_mark(seed: int) -> int:
    return seed % 97


class DatedPolicy:
    """Obeys `Policy`."""

    action_horizon = HORIZON
    policy_version = "dated-1"

    def __init__(self, *, infer_s: float = 0.02, size: int = SIZE) -> None:
        self.interface = Interface.from_dict(interface(size))
        self._infer_s = infer_s

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        time.sleep(self._infer_s)
        return [ActionChunk(actions=dated_actions(request), policy_version=self.policy_version) for request in requests]


def dated_actions(request: PolicyRequest) -> np.ndarray:
    """Return the chunk for a request, float32 [H, 6]."""
    actions = np.repeat(request.observation.state[None], HORIZON, axis=0).astype(np.float32)
    actions[:, TICK] = SCALE * request.tick
    actions[:, INDEX] = SCALE * np.arange(HORIZON)
    actions[:, EPISODE] = SCALE * episode_mark(request.episode_seed)
    return actions


def main() -> None:
    """Answer as `opentau.rollout.policy_process` asks its programs to."""
    arguments = argparse.ArgumentParser()
    for name in ("session", "endpoint-file", "policy-version", "parent-pid"):
        arguments.add_argument(f"--{name}", required=True)
    options = arguments.parse_args()
    die_with_parent(int(options.parent_pid))
    socket, endpoint = bind(zmq.Context(), Plane.INFERENCE, host="127.0.0.1")
    write_text(Path(options.endpoint_file), endpoint)
    session = options.session
    while socket.poll(60_000):
        identity, frames = receive_from(socket)
        message, arrays = decode(frames, max_bytes=Plane.INFERENCE.value.max_bytes)
        if isinstance(message, Bye):
            return
        if isinstance(message, Hello):
            send_to(socket, identity, Offer(session=session, policy_version=options.policy_version, action_horizon=HORIZON))
            continue
        actions = dated_actions(request_from(message, arrays))
        chunk = Chunk(
            session=session,
            seq=message.seq,
            episode_id=message.episode_id,
            policy_version=options.policy_version,
            value=None,
            infer_ms=0.0,
        )
        send_to(socket, identity, chunk, {"actions": actions})


if __name__ == "__main__":
    main()
