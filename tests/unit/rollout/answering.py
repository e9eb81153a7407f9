"""A policy in a process of its own, as LeRobot's are, but answering in numpy and with accidents: `python -m … ACCIDENT …`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import zmq

from opentau.checkpoint import write_text
from robot_bridge.wire.link import Plane, bind, receive_from, send_to
from robot_bridge.wire.messages import Bye, Chunk, Hello, Offer, Reject, decode
from robot_bridge.wire.payloads import request_from
from tests.fakes import ScriptedPolicy

HORIZON = 12


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("accident")
    for name in ("session", "endpoint-file", "policy-version", "parent-pid"):
        arguments.add_argument(f"--{name}", required=True)
    options = arguments.parse_args()
    socket, endpoint = bind(zmq.Context(), Plane.INFERENCE, host="127.0.0.1")
    write_text(Path(options.endpoint_file), endpoint)
    policy = ScriptedPolicy(version=options.policy_version, action_horizon=HORIZON)
    while True:
        identity, frames = receive_from(socket) if socket.poll(60_000) else os._exit(9)
        message, arrays = decode(frames, max_bytes=Plane.INFERENCE.value.max_bytes)
        if isinstance(message, Bye):
            return
        if isinstance(message, Hello):
            assert set(message.interface.cameras) == {"observation.images.agentview", "observation.images.wrist"}
            offer = Offer(session=options.session, policy_version=options.policy_version, action_horizon=HORIZON)
            no = Reject(session=options.session, text="these eyes see nothing")
            send_to(socket, identity, no if options.accident == "refuses" else offer)
            continue
        request = request_from(message, arrays)
        assert set(request.observation.images) == {"observation.images.agentview", "observation.images.wrist"}
        actions = policy.infer([request])[0].actions
        if request.tick and options.accident == "dies":
            print("the weights fell off", flush=True)
            os._exit(3)
        if options.accident == "short":
            actions = actions[:-1]
        if options.accident == "nan":
            actions = np.full_like(actions, np.nan)
        chunk = Chunk(
            session=options.session,
            seq=message.seq + (options.accident == "another"),
            episode_id=message.episode_id,
            policy_version=options.policy_version,
            value=None,
            infer_ms=0.0,
        )
        send_to(socket, identity, chunk, {"actions": actions})


if __name__ == "__main__":
    main()
