"""`opentau expert`: train an expert by reinforcement learning where no script exists, and say how well it does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from opentau.cli.compose import compose_config, parser
from opentau.cli.progress import COLUMNS
from opentau.config import check_args, locate, options_from
from opentau.errors import OptionError
from opentau.loop.options import EnvOptions
from opentau.loop.run import cpu_seconds
from opentau.training.expert_options import ExpertOptions

DESCRIPTION = """Train an expert for a task without a script: stable-baselines3 (SAC, or PPO) on the simulator's own state,
with the environment's dense reward. The result is one .npz file that plays in numpy and demonstrates and intervenes as a
script does:
  opentau expert env=robosuite/lift --out lift.npz
  opentau demonstrate env=robosuite/lift +expert=learned env.expert.args.actor=lift.npz data.demonstrations=50
  opentau loop env=robosuite/lift +expert=learned env.expert.args.actor=lift.npz
learning.num_decisions=N is the budget; the file holds the best expert so far from the first check on. At the end it plays
official states that training never saw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertCommand:
    """All options of the command."""

    env: EnvOptions
    learning: ExpertOptions
    seed: int = 0
    task_id: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.task_id < self.env.num_tasks:
            raise OptionError(
                f"task_id={self.task_id} is not a task of this environment; it has the tasks 0 to {self.env.num_tasks - 1}"
            )


def main(argv: Sequence[str]) -> int:
    """Train, evaluate and print."""
    arguments = parser("expert", DESCRIPTION)
    arguments.add_argument("--out", type=Path, help="the file to write (default: expert-TASK-SEED.npz here)")
    arguments.add_argument("--json", action="store_true", help="one line: {path, successes, episodes, num_decisions, …}")
    parsed = arguments.parse_intermixed_args(argv)
    options = options_from(ExpertCommand, compose_config("expert", parsed.options), where="expert")
    check_args(options.env.own_spec, "task_id")
    path = parsed.out or Path(f"expert-{options.env.name}-{options.task_id}-{options.seed}.npz")
    if path.suffix != ".npz" or not path.parent.is_dir():
        arguments.error(f"--out is {path}; name a file that ends in .npz in a folder that exists")
    console = Console(stderr=parsed.json)
    result = _train(options, path, console)
    if parsed.json:
        print(json.dumps(result))
        return 0
    console.print(
        f"{result['successes']} of {result['episodes']} official states succeed; {result['num_decisions']} decisions, "
        f"{result['num_updates']} updates, {result['cpu_s'] / 60:.1f} CPU-minutes",
        highlight=False,
    )
    console.print(f"expert: {path}; use it by +expert=learned env.expert.args.actor={path}", highlight=False)
    return 0


def _train(options: ExpertCommand, path: Path, console: Console) -> dict[str, Any]:
    spec: Mapping[str, Any] = {**options.env.spec, "args": {**options.env.args, "task_id": options.task_id}}
    began_s = cpu_seconds()
    with Progress(*COLUMNS, console=console) as progress:
        trained = locate("opentau.training.expert:train_expert")(
            spec, options.learning, seed=options.seed, path=path, on_progress=_bar(progress, "expert")
        )
        episodes = options.learning.final_episodes
        successes = locate("opentau.training.expert:evaluate_expert")(
            spec, path, num_episodes=episodes, on_progress=_bar(progress, "official states")
        )
    return {
        "path": str(path),
        "successes": successes,
        "episodes": episodes,
        "num_decisions": trained.num_decisions,
        "num_updates": trained.num_updates,
        "checks": trained.checks,
        "cpu_s": cpu_seconds() - began_s,
    }


def _bar(progress: Progress, name: str) -> Callable[[int, int, str], None]:
    bar = progress.add_task(name, total=None, note="")
    return lambda done, total, note: progress.update(bar, completed=min(done, total), total=total, note=note)
