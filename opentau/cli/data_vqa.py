"""`opentau data make-vqa`: visual questions with answers that the simulator knows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from opentau.checkpoint import partial_path
from opentau.cli.compose import compose_config, parser
from opentau.cli.progress import COLUMNS
from opentau.data.vlm.making import make_vqa, num_done, require_new
from opentau.data.vlm.plan import VqaPlan, default_episodes
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions

DESCRIPTION = """Make visual questions about simulated scenes, with answers known for certain: boxes of named objects, left and
right, what lies in or on what, what the gripper holds, how many, and which subtask comes next. The scripted expert
plays episodes, a few frames of each are asked about; yes and no are equally frequent. Equal seeds give equal files.
  opentau data make-vqa env=libero/object task_id=[0,1] --out data/vqa --questions 2000
Interrupted, the same command goes on."""


def main(argv: Sequence[str]) -> int:
    """Make the folder, or say what would be made."""
    arguments = _parser()
    parsed = arguments.parse_intermixed_args(argv)
    plan, options = _plan(parsed)
    require_new(plan, parsed.out)
    if parsed.dry_run:
        _print_plan(plan, options, parsed.out)
        return 0
    console = Console(stderr=parsed.json)
    with Progress(*COLUMNS, console=console) as progress:
        bar = progress.add_task("episodes", total=plan.num_episodes, note=plan.env_name)
        info = make_vqa(plan, parsed.out, on_episode=lambda done: progress.update(bar, completed=done))
    if parsed.json:
        print(json.dumps({"path": str(parsed.out), **info}))
        return 0
    table = Table("kind", "questions")
    for kind, count in info["kinds"].items():
        table.add_row(kind, str(count))
    console.print(table)
    console.print(f"questions: {parsed.out}", highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    arguments = parser("data make-vqa", DESCRIPTION)
    arguments.add_argument("--out", type=Path, required=True, help="folder to make; it must not exist")
    arguments.add_argument("--questions", type=int, default=1000, help="in both splits together (default 1000)")
    arguments.add_argument("--episodes", type=int, default=None, help="scenes to look at (default: one for 50 questions)")
    arguments.add_argument("--seed", type=int, default=None, help="decides placements, episodes and questions (default 0)")
    arguments.add_argument("--split-share", type=float, default=0.1, help="share kept for validation (default 0.1)")
    arguments.add_argument("--dry-run", action="store_true", help="print what would be made and its cost, and stop")
    arguments.add_argument(
        "--json", action="store_true", help="one line: {path, format, version, env, num_questions, kinds, …}"
    )
    return arguments


def _plan(parsed: argparse.Namespace) -> tuple[VqaPlan, LoopOptions]:
    options = LoopOptions.from_config(compose_config("loop", parsed.options))
    if options.env.expert is None:
        raise OptionError(f"{options.env_name} has no expert to play its scenes; use env=tabletop or env=libero/object")
    plan = VqaPlan(
        env_name=options.env_name,
        env=options.env.own_spec,
        expert=options.env.expert,
        perturbation=options.env.perturbation,
        task_ids=options.task_id,
        seed=options.seed if parsed.seed is None else parsed.seed,
        num_questions=parsed.questions,
        num_episodes=default_episodes(parsed.questions) if parsed.episodes is None else parsed.episodes,
        validation_share=parsed.split_share,
    )
    return plan, options


def _print_plan(plan: VqaPlan, options: LoopOptions, folder: Path) -> None:
    cpu_s = plan.num_played * options.env.cost.demonstration_cpu_s
    num_validation = len(plan.validation_episodes())
    table = Table("what", "how much")
    table.add_row("questions", f"{plan.num_questions}, {plan.validation_share:.0%} of them for validation")
    table.add_row("tasks", f"{plan.env_name} {', '.join(map(str, plan.task_ids))}")
    table.add_row("episodes", f"{plan.num_played} played, {plan.num_episodes - plan.num_played} only looked at as they start")
    table.add_row("validation", f"{num_validation} of these episodes")
    table.add_row("done already", str(num_done(plan, folder)))
    table.add_row("CPU", f"about {cpu_s:.0f} s at most, and building the scenes the first time")
    console = Console()
    console.print(table)
    state = "goes on" if partial_path(folder).exists() else "would be made"
    console.print(f"folder: {folder} ({state})", highlight=False)
