"""Single stages of a run: each command does the stages before it that are missing, its own, and stops there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from opentau.checkpoint import read_manifest
from opentau.cli.compose import compose_config, parser
from opentau.cli.following import crew_of_command, follow
from opentau.cli.plan import DRY_RUN_HELP, print_plan
from opentau.cli.progress import StageProgress
from opentau.config import locate, runs_dir
from opentau.loop.budget import estimate
from opentau.loop.lerobot_options import require_improvable
from opentau.loop.options import LoopOptions
from opentau.loop.run import STAGES_FOLDER, STATE_FILE, RunStopped, open_run

COMMON = """
Stages that are complete are reused, missing ones before it are made first; the same options with `opentau loop` go on
from here. Without run_id= the run is the one of these options."""


def demonstrate(argv: Sequence[str]) -> int:
    """`opentau demonstrate`: record scripted demonstrations as a dataset."""
    description = (
        """Record scripted demonstrations as a LeRobot v3.0 dataset; --json prints its folder.
  opentau demonstrate env=libero/object task_id=[2,3] data.demonstrations=25 env.args.image_size=128
The folder goes into data.datasets, or into a part of mixture.parts, of other runs."""
        + COMMON
    )
    return run_until("demonstrate", argv, description=description, stage="demonstrations", has_iteration=False)


def collect(argv: Sequence[str]) -> int:
    """`opentau collect`: record the autonomous episodes of an iteration."""
    return run_until("collect", argv, description="Record autonomous episodes with interventions." + COMMON, stage="collect")


def value(argv: Sequence[str]) -> int:
    """`opentau value`: fit the value function of an iteration."""
    return run_until("value", argv, description="Fit the value function and check it out of fold." + COMMON, stage="value")


def label(argv: Sequence[str]) -> int:
    """`opentau label`: label the episodes of an iteration."""
    description = (
        """Label episodes with advantages and indicators.
With --iteration 0 it labels demonstrations alone, each frame by return minus value to the episode's end (N = T), the best
30 % of every task positive; `opentau update --iteration 0` then pre-trains the policy with its indicator:
  opentau label --iteration 0 data.datasets=[owner/name] data.demonstrations=0 +value.labels.demonstration_share=0.3"""
        + COMMON
    )
    return run_until("label", argv, description=description, stage="label")


def update(argv: Sequence[str]) -> int:
    """`opentau update`: train the candidate of an iteration."""
    return run_until("update", argv, description="Update the policy on labelled episodes." + COMMON, stage="update")


def run_until(command: str, argv: Sequence[str], *, description: str, stage: str, has_iteration: bool = True) -> int:
    """Run the cycle up to a stage and print what that stage made."""
    arguments = parser(command, description)
    if has_iteration:
        arguments.add_argument("--iteration", type=int, default=1, help="iteration of the stage (default 1)")
    arguments.add_argument("--json", action="store_true", help="print path and summary of the stage in one line")
    arguments.add_argument("--dry-run", action="store_true", help=DRY_RUN_HELP)
    parsed = arguments.parse_intermixed_args(argv)
    config = compose_config("loop", parsed.options)
    options = LoopOptions.from_config(config)
    if has_iteration:
        require_improvable(options)
    name = f"{stage}-{parsed.iteration if has_iteration else 0}"
    expected_s = {cost.stage: cost.expected_s for cost in estimate(options)}
    if name not in expected_s:
        arguments.error(f"the run has no stage {name}; {_instead(name, stage, options)}")
    directory = runs_dir() / (options.run_id or options.default_run_id(config))
    if parsed.dry_run:
        print_plan(options, directory, last_stage=name)
        return 0
    crew = crew_of_command()
    if not crew.leads:
        return follow(directory, options, crew=crew, last_stage=name)
    console = Console(stderr=parsed.json)
    try:
        words = " ".join(["opentau", command, *argv])
        with (
            open_run(
                directory, config=config, command=words, expected_s=_up_to(name, expected_s), last_stage=name, crew=crew
            ) as run,
            StageProgress(console) as progress,
        ):
            run.events.listen(progress.listen)
            locate("opentau.loop.cycle:run_cycle")(run, options)
    except RunStopped as stop:
        console.print(str(stop), highlight=False)
    if parsed.json:
        _print_stage(directory, name)
    return 0


def _instead(name: str, stage: str, options: LoopOptions) -> str:
    """Return what would give a run a stage that it does not plan."""
    if name in ("label-0", "update-0"):
        return "label demonstrations with +value.labels.demonstration_share=0.3"
    if stage in ("value", "label") and not options.learns_values:
        return "its improver learns without a value function and labels; choose another one, such as improve=recap"
    return f"it plans {options.iterations} iterations (iterations=N)"


def _up_to(name: str, expected_s: Mapping[str, float]) -> dict[str, float]:
    names = list(expected_s)
    return {stage: expected_s[stage] for stage in names[: names.index(name) + 1]}


def _print_stage(directory: Path, name: str) -> None:
    state = json.loads((directory / STATE_FILE).read_text())["stages"][name]
    path = directory / STAGES_FOLDER / state["directory"]
    print(
        json.dumps({"stage": name, "path": str(path), "id": state["id"], "summary": read_manifest(path)["content"]["summary"]})
    )
