"""`opentau checkpoint card`: measure a checkpoint and write its model card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from opentau.checkpoint import write_text
from opentau.cli.checkpoints import checkpoint_and_config
from opentau.cli.compose import parser
from opentau.cli.progress import StageProgress
from opentau.config import locate, runs_dir
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions
from opentau.loop.run import open_run
from opentau.policies.options import identifying
from opentau.types import content_hash

DESCRIPTION = """Measure a checkpoint and write its model card: what it is and learned from, success by task with intervals,
how it does where the environment is perturbed, limits, and the command that makes the card again.
  opentau checkpoint card runs/RUN/stages/update-1-… env=libero/object 'task_id=[0,1]' --official --under camera,tasks
Perturbations are in docs/environments.md; `tasks` asks for another thing of the same scene. What was scored is kept."""


def main(argv: Sequence[str]) -> int:
    """Play, score and write."""
    arguments = parser("checkpoint card", DESCRIPTION)
    arguments.add_argument(
        "--episodes", type=int, default=20, help="episodes per task, and per task and perturbation (default 20)"
    )
    arguments.add_argument("--official", action="store_true", help="start from the official initial states")
    arguments.add_argument("--under", default="", metavar="NAME,NAME", help="perturbations to measure besides, with commas")
    arguments.add_argument("--name", default="", help="what the card calls it (default: the checkpoint's folder)")
    arguments.add_argument("--out", type=Path, metavar="FILE", help="where the card goes (default: printed)")
    arguments.add_argument("--json", action="store_true", help="one line: {path, score, under}")
    parsed = arguments.parse_intermixed_args(argv)
    if parsed.episodes < 1:
        raise OptionError(f"--episodes is {parsed.episodes}; it is at least 1")
    policy, config = checkpoint_and_config(parsed.options, command="checkpoint card")
    under = list(filter(None, parsed.under.split(",")))
    told = {name: value for name, value in config.items() if name != "fleet"} | {"inference": identifying(config["inference"])}
    config["gate"] = config["gate"] | {"guards": under}  # no part of the run's name: a card under more goes on
    options = LoopOptions.from_config(config)
    run_id = f"card-{policy.id[:8]}-{content_hash([told, parsed.episodes, parsed.official])[:6]}"
    with (
        open_run(runs_dir() / run_id, config=config, command="opentau checkpoint card", expected_s={}) as run,
        StageProgress(Console(stderr=True)) as progress,
    ):
        run.events.listen(progress.listen)
        setting = locate("opentau.loop.setting:open_setting")(run, options)
        facts = locate("opentau.loop.carding:card_facts")(
            setting,
            name=parsed.name or policy.path.name,
            policy=policy,
            num_episodes=parsed.episodes,
            is_official=parsed.official,
            under=under,
            command=shlex.join(["opentau", "checkpoint", "card", *argv]),
        )
    text = locate("opentau.loop.card:card_text")(facts)
    path = parsed.out or runs_dir() / run_id / "CARD.md"
    write_text(path, text)
    if parsed.json:
        print(json.dumps({"path": str(path), "score": dict(facts.score), "under": dict(facts.under)}))
    else:
        print(text if parsed.out is None else path)
    return 0
