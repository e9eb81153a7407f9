"""`opentau eval`: score a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console

from opentau.cli.checkpoints import checkpoint_and_config
from opentau.cli.compose import parser
from opentau.cli.progress import StageProgress
from opentau.config import locate, runs_dir
from opentau.loop.options import LoopOptions
from opentau.loop.run import open_run
from opentau.policies.options import identifying
from opentau.types import content_hash

DESCRIPTION = """Score a checkpoint with the environment and inference options given; prints successes and their 95 % interval.
  opentau eval runs/RUN/stages/sft-0-… env=libero/object task_id=0 --official
  opentau eval policy=lerobot policy.args.checkpoint=FOLDER env=libero/object   ACT, diffusion … of LeRobot's (docs/lerobot.md)
Scored episodes are kept: an interrupted evaluation goes on, a finished one is printed again."""
KEYS = ("policy", "episodes", "successes", "interval", "tasks", "errors", "mean_steps", "eval_spec")


def main(argv: Sequence[str]) -> int:
    """Play, score and print."""
    arguments = parser("eval", DESCRIPTION)
    arguments.add_argument("--episodes", type=int, default=50, help="episodes per task (default 50)")
    arguments.add_argument("--official", action="store_true", help="start from the official initial states ")
    arguments.add_argument("--json", action="store_true", help="one line: {policy, episodes, successes, interval, tasks, …}")
    parsed = arguments.parse_intermixed_args(argv)
    policy, config = checkpoint_and_config(parsed.options, command="eval")
    options = LoopOptions.from_config(config)
    told = {name: value for name, value in config.items() if name != "fleet"} | {"inference": identifying(config["inference"])}
    asked = [told, parsed.episodes, parsed.official]
    run_id = f"eval-{policy.id[:8]}-{content_hash(asked)[:6]}"
    console = Console(stderr=True)
    with (
        open_run(
            runs_dir() / run_id,
            config=config,
            command="opentau eval",
            expected_s={"evaluate-0": parsed.episodes * options.env.cost.scored_episode_cpu_s},
        ) as run,
        StageProgress(console) as progress,
    ):
        run.events.listen(progress.listen)
        setting = locate("opentau.loop.setting:open_setting")(run, options)
        product = locate("opentau.loop.judging:evaluate")(
            setting, 0, policy=policy, num_episodes=parsed.episodes, is_official=parsed.official
        )
    score = {key: product.summary[key] for key in KEYS}
    if parsed.json:
        print(json.dumps(score))
        return 0
    low, high = score["interval"]
    interval = f"95 % interval {low:.0%} to {high:.0%}"
    print(f"{score['successes']} of {score['episodes']} succeed ({interval}), eval-spec {score['eval_spec']}")
    return 0
