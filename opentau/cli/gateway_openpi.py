"""`opentau gateway openpi`: a checkpoint for openpi's clients."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentau.cli.checkpoints import checkpoint_and_config
from opentau.cli.compose import parser
from opentau.cli.pairs import pair
from opentau.config import locate
from opentau.loop.options import LoopOptions
from robot_bridge.gateways.openpi_server import OpenPiServer
from robot_bridge.gateways.openpi_wire import OpenPiNames
from robot_bridge.wire.link import require_loopback

COMMAND = "gateway openpi"
DESCRIPTION = """Serve a checkpoint of OpenTau's to clients of openpi (openpi-client and robots built on it) until Ctrl-C.
  opentau gateway openpi runs/RUN/stages/update-1-… --camera agentview=observation/image --camera wrist=observation/wrist_image
A camera that is not named keeps its name: observation/NAME. Images come in the policy's own size; what does not fit is refused
in words. openpi's protocol has no keys: it listens on this machine only, reach it from others through a tunnel of yours."""


def main(argv: Sequence[str]) -> int:
    """Serve until interrupted."""
    arguments = parser(COMMAND, DESCRIPTION)
    arguments.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default 127.0.0.1)")
    arguments.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000, as openpi's; 0: any)")
    arguments.add_argument(
        "--camera", action="append", default=[], metavar="OURS=THEIRS", help="a camera and its key of openpi's"
    )
    arguments.add_argument("--state", default="observation/state", help="key of the state (default observation/state)")
    arguments.add_argument("--prompt", default="prompt", help="key of the instruction (default prompt)")
    arguments.add_argument("--mirrored", action="store_true", help="clients send images mirrored left to right, as for LIBERO")
    parsed = arguments.parse_intermixed_args(argv)
    require_loopback(parsed.host)
    checkpoint, config = checkpoint_and_config(parsed.options, command=COMMAND)
    policy = locate("opentau.loop.serving:load_answering")(checkpoint.path, LoopOptions.from_config(config))
    named = dict(pair(text, flag="--camera", form="OURS=THEIRS") for text in parsed.camera)
    names = OpenPiNames(
        cameras={camera: f"observation/{camera}" for camera in policy.interface.cameras} | named,
        state=parsed.state,
        prompt=parsed.prompt,
        is_mirrored=parsed.mirrored,
    )
    with OpenPiServer(policy, names=names, host=parsed.host, port=parsed.port) as server:
        print(f"policy {policy.policy_version[:8]} answers openpi's clients at {server.url}; Ctrl-C ends it")
        for camera, key in names.cameras.items():
            print(f"  {key}: {camera}, uint8 {policy.interface.cameras[camera]}")
        print(f"  {names.state}: {', '.join(policy.interface.state_names)}\n  {names.prompt}: text", flush=True)
        try:
            while True:
                time.sleep(1.0)
        except KeyboardInterrupt:
            print(f"answered {server.num_answers} observations")
    return 0
