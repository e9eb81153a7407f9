"""A policy of LeRobot's behind the bridge's protocol: `python -P -m lerobot_side.serve FOLDER --session … --endpoint-file …`.

OpenTau starts it in LeRobot's environment, says hello with the interface it will send observations of, and is offered the
policy or refused in words. It answers one peer and ends with it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
import zmq

from lerobot_side.policy import LeRobotPolicy
from opentau.checkpoint import write_text
from opentau.errors import LinkError, OpenTauError
from robot_bridge.parents import die_with_parent
from robot_bridge.wire.link import Plane, bind, receive_from, send_to, wait
from robot_bridge.wire.messages import AnyMessage, Bye, Chunk, Hello, Obs, Offer, Payload, Reject, decode
from robot_bridge.wire.payloads import request_from

POLL_S = 1.0


class PolicyServer:
    """Answers hellos with an offer and observations with chunks; what cannot be answered is refused in words."""

    def __init__(self, options: argparse.Namespace, socket: zmq.Socket[bytes]) -> None:
        self._options = options
        self._socket = socket
        self._policy: LeRobotPolicy | None = None

    def serve(self) -> None:
        """Answer until the peer says goodbye."""
        while True:
            if not wait(self._socket, timeout_s=POLL_S):
                continue
            identity, frames = receive_from(self._socket)
            try:
                message, arrays = decode(frames, max_bytes=Plane.INFERENCE.value.max_bytes)
                if message.session != self._options.session:
                    raise LinkError(f"the message is of session {message.session}, this is {self._options.session}")
                if isinstance(message, Bye):
                    return
                answer, answered = self._answer(message, arrays)
            except Exception as error:  # noqa: BLE001  (the border to LeRobot's code: who asked is told, and decides)
                text = str(error) if isinstance(error, OpenTauError) else f"{type(error).__name__}: {error}"
                answer, answered = Reject(session=self._options.session, text=text[:8000]), {}
            send_to(self._socket, identity, answer, answered)

    def _answer(self, message: AnyMessage, arrays: Mapping[str, Payload]) -> tuple[AnyMessage, dict[str, Payload]]:
        session = self._options.session
        if isinstance(message, Hello):
            self._policy = LeRobotPolicy(
                self._options.folder,
                interface=message.interface,
                policy_version=self._options.policy_version,
                device=self._options.device,
            )
            offer = Offer(
                session=session, policy_version=self._policy.policy_version, action_horizon=self._policy.action_horizon
            )
            return offer, {}
        if not isinstance(message, Obs) or self._policy is None:
            raise LinkError(f"a {type(message).__name__} does not belong here; say hello first, then send observations")
        started = time.perf_counter()
        (chunk,) = self._policy.infer([request_from(message, arrays)])
        reply = Chunk(
            session=session,
            seq=message.seq,
            episode_id=message.episode_id,
            policy_version=chunk.policy_version,
            value=None,
            infer_ms=1000 * (time.perf_counter() - started),
        )
        return reply, {"actions": chunk.actions}


def main() -> int:
    """Listen on a free port of the loopback interface, write where into a file, and serve."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help="a policy of LeRobot's: config.json, model.safetensors, processors")
    arguments.add_argument("--session", required=True, help="messages of any other session are refused")
    arguments.add_argument("--endpoint-file", type=Path, required=True, help="is written when the socket listens")
    arguments.add_argument("--policy-version", required=True, help="what chunks say they come from")
    arguments.add_argument("--device", default="cpu", help="where LeRobot computes (default cpu)")
    arguments.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    arguments.add_argument("--parent-pid", type=int, help="process whose end ends this one")
    options = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to everybody in the terminal; the parent decides
    die_with_parent(options.parent_pid)
    torch.set_num_threads(options.threads)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket, endpoint = bind(context, Plane.INFERENCE, host="127.0.0.1")
    try:
        write_text(options.endpoint_file, endpoint)
        PolicyServer(options, socket).serve()
    finally:
        socket.close(0)
        context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
