"""`opentau eval`: score a checkpoint."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from opentau.cli.checkpoints import checkpoint_and_config
from opentau.cli.compose import parser
from opentau.cli.progress import StageProgress
from opentau.config import locate, runs_dir
from opentau.loop.options import LoopOptions
from opentau.loop.run import open_run
from opentau.policies.bundled import Scored
from opentau.policies.options import identifying
from opentau.types import content_hash

DESCRIPTION = """Score a checkpoint with the environment and inference options given; prints successes and their 95 % interval.
  opentau eval policy=bundled/nano-libero-object --video        one that comes with OpenTau, on the tasks that it is made for
  opentau eval runs/RUN/stages/sft-0-… env=libero/object task_id=0 --official
  opentau eval policy=lerobot policy.args.checkpoint=FOLDER env=libero/object   ACT, diffusion … of LeRobot's (docs/lerobot.md)
  opentau eval CHECKPOINT env=libero/object 'task_id=[0,1,2]' --episodes 20 --video      a table by task, and a film of each
Scored episodes are kept: an interrupted evaluation goes on, a finished one is printed again."""
EPISODES = 50
KEYS = ("policy", "episodes", "successes", "interval", "tasks", "errors", "mean_steps", "eval_spec")


def main(argv: Sequence[str]) -> int:
    """Play, score and print."""
    arguments = parser("eval", DESCRIPTION)
    arguments.add_argument(
        "--episodes", type=int, help=f"episodes per task (default {EPISODES}; a bundled policy brings its own)"
    )
    arguments.add_argument(
        "--official",
        action=argparse.BooleanOptionalAction,
        help="start from the official initial states (default: no; a bundled policy brings its own)",
    )
    arguments.add_argument(
        "--video", type=int, nargs="?", const=1, default=0, metavar="N", help="film the first N episodes of each task (1)"
    )
    arguments.add_argument("--json", action="store_true", help="one line: {policy, episodes, successes, interval, tasks, …}")
    parsed = arguments.parse_intermixed_args(argv)
    policy, config = checkpoint_and_config(parsed.options, command="eval")
    scored = Scored.read(policy.path) or Scored(options={}, episodes=EPISODES, is_official=False)
    episodes = scored.episodes if parsed.episodes is None else parsed.episodes
    is_official = scored.is_official if parsed.official is None else parsed.official
    if episodes < 1 or not 0 <= parsed.video <= episodes:
        arguments.error(f"--episodes {episodes} --video {parsed.video}: score at least one, and film no more than that")
    options = LoopOptions.from_config(config)
    told = {name: value for name, value in config.items() if name != "fleet"} | {"inference": identifying(config["inference"])}
    asked = [told, episodes, is_official]
    run_id = f"eval-{policy.id[:8]}-{content_hash(asked)[:6]}"
    console = Console(stderr=True)
    with (
        open_run(
            runs_dir() / run_id,
            config=config,
            command="opentau eval",
            expected_s=_expected_s(options, num_episodes=episodes, num_films=parsed.video),
        ) as run,
        StageProgress(console) as progress,
    ):
        run.events.listen(progress.listen)
        setting = locate("opentau.loop.setting:open_setting")(run, options)
        product = locate("opentau.loop.judging:evaluate")(
            setting, 0, policy=policy, num_episodes=episodes, is_official=is_official
        )
        films: list[str] = []
        if parsed.video:
            filmed = locate("opentau.loop.filming:film")(
                setting, policy=policy, num_films=parsed.video, is_official=is_official
            )
            films = sorted(str(path) for path in filmed.path.glob("*.mp4"))
    score = {key: product.summary[key] for key in KEYS}
    if parsed.json:
        print(json.dumps(score | ({"videos": films} if films else {})))
        return 0
    if len(score["tasks"]) > 1:
        Console().print(_table(score["tasks"], {task.task_id: task.prompt for task in setting.tasks}))
    print(f"{_share(score)}, eval-spec {score['eval_spec']}")
    for path in films:
        print(f"film: {path}")
    return 0


def _expected_s(options: LoopOptions, *, num_episodes: int, num_films: int) -> dict[str, float]:
    cost, num_tasks = options.env.cost, len(options.task_id)
    films = {"film-0": num_films * num_tasks * cost.episode_cpu_s} if num_films else {}
    return {"evaluate-0": num_episodes * num_tasks * cost.scored_episode_cpu_s, **films}


def _share(score: Mapping[str, Any]) -> str:
    low, high = score["interval"]
    return f"{score['successes']} of {score['episodes']} succeed (95 % interval {low:.0%} to {high:.0%})"


def _table(tasks: Mapping[str, Mapping[str, Any]], prompts: Mapping[str, str]) -> Table:
    table = Table("task", "instruction", "score")
    for task_id, score in tasks.items():
        table.add_row(task_id, prompts[task_id], _share(score))
    return table
