"""`opentau serve`: a policy for stations that dial in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from opentau.cli.checkpoints import checkpoint_and_config
from opentau.cli.compose import parser
from opentau.config import locate, runs_dir
from opentau.loop.options import LoopOptions
from opentau.loop.plans import CANDIDATE
from opentau.loop.run import open_run
from opentau.rollout.evaluation import evaluation_plans
from opentau.types import Episode, EpisodeResult, content_hash
from robot_bridge.link import require_loopback

STAGE = "serve"
DESCRIPTION = """Serve a policy to stations that dial in and play episodes of the environment given, until all are played.
  opentau serve runs/RUN/stages/update-1-… env=tabletop --episodes 10
  opentau serve policy=lerobot policy.args.checkpoint=FOLDER env=libero/object   ACT, diffusion … of LeRobot's (docs/lerobot.md)
It writes a file for each of --stations and says how to start one with it, from another terminal. A station whose cameras, state
or actions differ from the policy's is refused, and told how. It listens on this machine only: links to others need keys."""


def main(argv: Sequence[str]) -> int:
    """Serve and print what comes of every episode."""
    arguments = parser(STAGE, DESCRIPTION)
    arguments.add_argument("--episodes", type=int, default=10, help="episodes per task (default 10)")
    arguments.add_argument("--stations", type=int, default=1, help="how many stations will dial in (default 1)")
    arguments.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default 127.0.0.1)")
    arguments.add_argument("--port", type=int, default=0, help="and the port after it; 0, the default, takes any that are free")
    parsed = arguments.parse_intermixed_args(argv)
    if parsed.stations < 1 or parsed.episodes < 1:
        arguments.error("--stations and --episodes are at least 1")
    require_loopback(parsed.host)
    policy, config = checkpoint_and_config(parsed.options, command=STAGE)
    options = LoopOptions.from_config(config)
    run_id = f"{STAGE}-{policy.id[:8]}-{content_hash([config, parsed.episodes])[:6]}"
    with open_run(runs_dir() / run_id, config=config, command=f"opentau {STAGE}", expected_s={}) as run:
        setting = locate("opentau.loop.setting:open_setting")(run, options)
        rollout = dataclasses.replace(
            setting.rollout_options(),
            num_stations=0,
            host=parsed.host,
            control_port=parsed.port,
            inference_port=parsed.port + 1 if parsed.port else 0,
        )
        plans = evaluation_plans(
            setting.task_ids, name=STAGE, policy_id=CANDIDATE, num_episodes=parsed.episodes, seed=options.seed
        )
        with setting.session(STAGE, 0, policies={CANDIDATE: policy.path}, rollout=rollout) as session:
            files = [run.directory / f"station-{number}.yaml" for number in range(1, parsed.stations + 1)]
            for file in files:
                session.station_config(file.stem).save(file)
            _say(files)
            results = session.run(plans, on_episode=_print_episode)
    print(f"{sum(result.is_success for result in results)} of {len(results)} succeeded")
    return 0


def _say(files: Sequence[Path]) -> None:
    print("the policy is served; start a station with")
    for file in files:
        print(f"  python -P -m robot_bridge.station {file}", flush=True)


def _print_episode(result: EpisodeResult, _: Episode | None) -> None:
    print(f"{result.plan.episode_id}  {result.outcome}  {result.num_steps} steps  {result.message}".rstrip(), flush=True)
