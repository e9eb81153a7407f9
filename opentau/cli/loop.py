"""`opentau loop`: compose the options, run or resume the cycle, say what came of it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from opentau.cli.compose import compose_config, parser
from opentau.cli.connecting import add_keys, listening
from opentau.cli.following import crew_of_command, follow
from opentau.cli.plan import DRY_RUN_HELP, print_plan
from opentau.cli.progress import StageProgress
from opentau.config import locate, runs_dir
from opentau.loop.budget import estimate
from opentau.loop.lerobot_options import require_improvable
from opentau.loop.options import LoopOptions
from opentau.loop.run import RunStopped, cpu_seconds, open_run

Listen = Callable[..., AbstractContextManager[None]]
"""From a run's directory, and its log as `log`, to a block in which others may follow and steer it."""

DESCRIPTION = """Run the improvement cycle: demonstrations, SFT, then per iteration autonomous episodes with interventions,
value function, advantage labels, policy update, and a gate that promotes on evidence only. Kill it at any moment;
the same command resumes."""


def main(argv: Sequence[str]) -> int:
    """Run the loop, or print its plan."""
    arguments = parser("loop", DESCRIPTION)
    arguments.add_argument("--dry-run", action="store_true", help=DRY_RUN_HELP)
    arguments.add_argument("--tui", action="store_true", help="run it in the background and open the screen on it")
    arguments.add_argument("--listen", metavar="HOST:PORT", help="let this run be followed and steered (opentau tui --connect)")
    add_keys(arguments)
    parsed = arguments.parse_intermixed_args(argv)
    config = compose_config("loop", parsed.options)
    options = LoopOptions.from_config(config)
    require_improvable(options)
    directory = runs_dir() / (options.run_id or options.default_run_id(config))
    if parsed.dry_run:
        print_plan(options, directory)
        return 0
    if parsed.tui and parsed.listen is not None:
        arguments.error(
            "--tui and --listen do not go together; run with --listen, and open the screen by opentau tui --connect"
        )
    if parsed.tui:
        return _run_behind_screen(parsed.options, directory)
    command = " ".join(["opentau", "loop", *parsed.options])
    return run_in_foreground(options, config, directory, command=command, listen=functools.partial(listening, options=parsed))


def run_in_foreground(
    options: LoopOptions, config: Mapping[str, Any], directory: Path, *, command: str, listen: Listen | None = None
) -> int:
    """Run or resume with progress bars and print the result; `listen` lets others come to it meanwhile."""
    crew = crew_of_command()
    if not crew.leads:
        return follow(directory, options, crew=crew)
    console = Console()
    expected_s = {cost.stage: cost.expected_s for cost in estimate(options)}
    try:
        with (
            open_run(directory, config=config, command=command, expected_s=expected_s, crew=crew) as run,
            listen(directory, log=run.events) if listen is not None else nullcontext(),
            StageProgress(console) as progress,
        ):
            run.events.listen(progress.listen)
            locate("opentau.loop.cycle:run_cycle")(run, options)
    except RunStopped as stop:
        console.print(str(stop))
        return 0
    locate("opentau.loop.cycle:report_run")(directory)
    _print_result(console, directory)
    return 0


def _print_result(console: Console, directory: Path) -> None:
    scores = json.loads((directory / "scores.json").read_text())
    table = Table("policy", "official states", "succeeded", "95 % interval")
    for name, score in scores.items():
        low, high = score["interval"]
        table.add_row(name, str(score["episodes"]), str(score["successes"]), f"{low:.0%} to {high:.0%}")
    console.print(table)
    console.print(f"CPU time of this process and its children: {cpu_seconds() / 60:.1f} minutes (user + system)")
    console.print(f"report: {directory / 'report.html'}", highlight=False)


def _run_behind_screen(overrides: Sequence[str], directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "loop", *overrides]
    with open(directory / "console.log", "ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    code = int(locate("opentau.cli.tui:main")([directory.name]))
    state = f"still running as process {process.pid}" if process.poll() is None else f"ended with {process.returncode}"
    print(f"the loop is {state}; its console: {directory / 'console.log'}")
    return code
