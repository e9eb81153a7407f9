"""`opentau robot connect`: a robot that plays in a run, for as long as there is work, over stages and interruptions."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from opentau.cli.robot_workcell import WorkcellWords, check_plugins, compose_workcell, is_lerobots, workcell_parser
from opentau.config import options_from
from opentau.errors import OptionError
from opentau.rollout.lerobot_environment import environment_variables, lerobot_python, module_command
from robot_bridge.config import StationConfig
from robot_bridge.security.keys import keys_dir, load_pair, secret_path
from robot_bridge.security.trust import Role, TrustList
from robot_bridge.station import EXIT_UNUSABLE
from robot_bridge.wire.messages import ANY_SESSION

AGAIN_S = 1.0
STATION = "robot_bridge.station"
LINKS = ".opentau-packages"
"""Folder beside a station's file through which LeRobot's environment finds our packages."""
DESCRIPTION = """Have a robot play in a run that listens, until Ctrl-C: it dials out, and comes back after pauses and failures.
  opentau loop … +rollout.listen=HOST:PORT            the run; the port after it is used too
  opentau robot connect ROBOT.yaml --to HOST:PORT     the robot
  opentau robot connect ROBOT.yaml --to HOST:PORT teleop=gamepad     … with which a human takes over by gamepad
  … +rollout.keys=server and --keys arm --server server           between machines (docs/security.md)
ROBOT.yaml names the robot, its limits, its tasks (id: {prompt, max_steps}), and may name operator, teleop, takeover, chunking
and a spool, which keeps finished episodes while the run is away (docs/robots.md, docs/bridge.md); `opentau robot twin` writes
one. With robot=lerobot the station runs in LeRobot's environment (docs/lerobot.md)."""


def main(argv: Sequence[str]) -> int:
    """Run the station program again and again."""
    arguments = workcell_parser("robot connect", DESCRIPTION)
    arguments.add_argument("--to", required=True, metavar="HOST:PORT", help="where the run listens")
    arguments.add_argument("--name", help="what the run calls this robot (default: its key's name, or the file's folder)")
    arguments.add_argument("--keys", metavar="NAME", default="", help="this machine's key (opentau keys new NAME)")
    arguments.add_argument("--server", metavar="NAME", default="", help="the run's key, trusted here with --role policy")
    arguments.add_argument("--once", action="store_true", help="end when the run says goodbye for the first time")
    parsed = arguments.parse_intermixed_args(argv)
    workcell = compose_workcell(parsed.words)
    folder = workcell.folder.absolute()
    if bool(parsed.keys) != bool(parsed.server):
        raise OptionError("--keys and --server go together: your own key and the run's")
    name = parsed.name or parsed.keys or f"robot-{folder.name}"
    config = _config(workcell, address=parsed.to, name=name, link=_keys(parsed.keys, parsed.server))
    path = folder / "station.yaml"
    config.save(path)
    command, variables = _station(config, path)
    try:
        while True:
            code = subprocess.run(command, env=variables, check=False).returncode
            if code == EXIT_UNUSABLE:
                return EXIT_UNUSABLE
            if parsed.once and code == 0:
                return 0
            time.sleep(AGAIN_S)
    except KeyboardInterrupt:
        print(f"{config.station_id} plays no more", file=sys.stderr)
    return 0


def _station(config: StationConfig, file: Path) -> tuple[list[str], dict[str, str] | None]:
    """Return the command that runs the station, and its environment; LeRobot's devices need LeRobot's."""
    if not any(is_lerobots(spec) for spec in (config.robot, config.teleop)):
        return module_command(Path(sys.executable), STATION, [str(file)]), None
    return module_command(lerobot_python(), STATION, [str(file)]), environment_variables(file.parent / LINKS)


def _keys(own: str, server: str) -> dict[str, str]:
    """Return the options of a link with keys; raises `KeyFileError` for one that is not there or not trusted."""
    if not own:
        return {}
    load_pair(secret_path(own))
    public = TrustList(keys_dir()).named(server, Role.POLICY).public
    return {"secret_file": str(secret_path(own)), "server_public_key": public}


def _config(workcell: WorkcellWords, *, address: str, name: str, link: Mapping[str, str]) -> StationConfig:
    """Return the station's configuration; raises `OptionError` for what does not belong there."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise OptionError(f"--to is {address!r}; write it as HOST:PORT, for example 127.0.0.1:5600")
    check_plugins(workcell.plain)
    given = {
        **link,
        "session": ANY_SESSION,
        "station_id": name,
        "control_endpoint": f"tcp://{host}:{port}",
        "inference_endpoint": f"tcp://{host}:{int(port) + 1}",
    }
    return options_from(StationConfig, {**given, **workcell.plain}, where=workcell.where)
