"""`opentau serve`: a policy for stations that dial in."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Sequence
from pathlib import Path

from opentau.cli.checkpoints import checkpoint_and_config
from opentau.cli.compose import parser
from opentau.cli.connecting import add_keys
from opentau.config import locate, runs_dir
from opentau.errors import KeyFileError
from opentau.loop.options import LoopOptions
from opentau.loop.plans import CANDIDATE
from opentau.loop.run import open_run
from opentau.rollout.evaluation import evaluation_plans
from opentau.types import Episode, EpisodeResult, content_hash
from robot_bridge.config import StationConfig
from robot_bridge.interpreters import environment_of, find
from robot_bridge.security.keys import keys_dir, secret_path
from robot_bridge.security.trust import Role, TrustList
from robot_bridge.wire.link import is_loopback, require_loopback

STAGE = "serve"
DESCRIPTION = """Serve a policy to stations that dial in and play episodes of the environment given, until all are played.
  opentau serve runs/RUN/stages/update-1-… env=tabletop --episodes 10
  opentau serve policy=lerobot policy.args.checkpoint=FOLDER env=libero/object   ACT, diffusion … of LeRobot's (docs/lerobot.md)
It writes a file for each of --stations and says how to start one with it, from another terminal. A station whose cameras, state
or actions differ from the policy's is refused, and told how. It listens on this machine only, unless there are keys:
  opentau serve CHECKPOINT env=tabletop --host 0.0.0.0 --port 5600 --keys server --address 192.168.1.5
Then every key that is trusted as robot may come, and it says what to copy to the robot's machine (docs/security.md)."""


def main(argv: Sequence[str]) -> int:
    """Serve and print what comes of every episode."""
    arguments = parser(STAGE, DESCRIPTION)
    arguments.add_argument("--episodes", type=int, default=10, help="episodes per task (default 10)")
    arguments.add_argument("--stations", type=int, default=1, help="how many stations will dial in (default 1)")
    arguments.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    arguments.add_argument("--port", type=int, default=0, help="and the port after it; 0, the default, takes any that are free")
    arguments.add_argument("--address", help="what other machines call this one; the host's name when left out")
    add_keys(arguments)
    parsed = arguments.parse_intermixed_args(argv)
    if parsed.stations < 1 or parsed.episodes < 1:
        arguments.error("--stations and --episodes are at least 1")
    robots = _robots() if parsed.keys else []
    if not parsed.keys:
        require_loopback(parsed.host, insecure=parsed.insecure)
    policy, config = checkpoint_and_config(parsed.options, command=STAGE)
    options = LoopOptions.from_config(config)
    run_id = f"{STAGE}-{policy.id[:8]}-{content_hash([config, parsed.episodes])[:6]}"
    with open_run(runs_dir() / run_id, config=config, command=f"opentau {STAGE}", expected_s={}) as run:
        setting = locate("opentau.loop.setting:open_setting")(run, options)
        rollout = dataclasses.replace(
            setting.rollout_options(),
            num_stations=0,
            host=parsed.host,
            keys=parsed.keys,
            insecure=parsed.insecure,
            control_port=parsed.port,
            inference_port=parsed.port + 1 if parsed.port else 0,
        )
        plans = evaluation_plans(
            setting.task_ids, name=STAGE, policy_id=CANDIDATE, num_episodes=parsed.episodes, seed=options.seed
        )
        with setting.session(STAGE, 0, policies={CANDIDATE: policy.path}, rollout=rollout) as session:
            names = robots or [f"station-{number}" for number in range(1, parsed.stations + 1)]
            address = None if is_loopback(parsed.host) else parsed.address or socket.gethostname()
            files = [run.directory / f"{name}.yaml" for name in names]
            for file in files:
                config_of_station(session.station_config(file.stem), address=address, has_key=bool(robots)).save(file)
            _say(files, address=address, interpreter=rollout.interpreter)
            results = session.run(plans, on_episode=_print_episode)
    print(f"{sum(result.is_success for result in results)} of {len(results)} succeeded")
    return 0


def config_of_station(config: StationConfig, *, address: str | None, has_key: bool) -> StationConfig:
    """Return what a station elsewhere reads: it dials `address`, with the key of its own machine that has its name."""
    if address is not None:
        control, inference = (_at(address, endpoint) for endpoint in (config.control_endpoint, config.inference_endpoint))
        config = dataclasses.replace(config, control_endpoint=control, inference_endpoint=inference)
    return dataclasses.replace(config, secret_file=secret_path(config.station_id).name) if has_key else config


def _at(address: str, endpoint: str) -> str:
    return f"tcp://{address}:{endpoint.rpartition(':')[2]}"


def _robots() -> list[str]:
    entries = TrustList(keys_dir()).entries()
    robots = [entry.name for entry in entries if entry.role == Role.ROBOT and not entry.revoked_at]
    if not robots:
        raise KeyFileError("no robot is trusted, so that nobody could come; run `opentau keys trust FILE --role robot`")
    return robots


def _say(files: Sequence[Path], *, address: str | None, interpreter: str) -> None:
    where = "" if address is None else ": copy its file there, and in the folder of that copy run"
    print(f"the policy is served; start a station with{where}")
    python = "python"
    if interpreter and address is None:
        python = f"PYTHONPATH={environment_of(interpreter)['PYTHONPATH']} {find(interpreter)}"
    for file in files:
        print(f"  {python} -P -m robot_bridge.station {file if address is None else file.name}", flush=True)
    if address is not None:
        print("the files to copy: " + ", ".join(map(str, files)), flush=True)


def _print_episode(result: EpisodeResult, _: Episode | None) -> None:
    print(f"{result.plan.episode_id}  {result.outcome}  {result.num_steps} steps  {result.message}".rstrip(), flush=True)
