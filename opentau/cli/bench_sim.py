"""`opentau bench sim`: how fast an environment runs here, and on what its time goes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from opentau.cli.compose import compose_config, parser
from opentau.cli.progress import COLUMNS
from opentau.config import build
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions
from opentau.rollout.sim_bench import SimSpeed, measure

DESCRIPTION = """Control steps per second of an environment in one process, and the shares of physics (MuJoCo), control (the
controller, checks, Python around it), rendering (every step, all cameras) and transport (an observation over loopback).
  opentau bench sim env=libero/object
  opentau bench sim env=libero/10 env.args.image_size=224 --steps 300
  opentau bench sim env=libero/object +env.args.timestep_ms=5          what the official physics costs
A run that renders once a chunk comes closer to 'without rendering'."""
ABOUT_SHARES = {
    "physics": "inside MuJoCo",
    "control": "controller, checks, Python around them",
    "rendering": "all cameras, every step",
    "transport": "an observation over loopback, raw",
}


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    arguments = parser("bench sim", DESCRIPTION)
    arguments.add_argument("--steps", type=int, default=400, help="control steps to time (default 400)")
    arguments.add_argument("--json", action="store_true", help="one line: {task_id, steps, steps_per_s, shares, …}")
    parsed = arguments.parse_intermixed_args(argv)
    if parsed.steps < 1:
        raise OptionError(f"--steps is {parsed.steps}; it is at least 1")
    options = LoopOptions.from_config(compose_config("loop", parsed.options))
    console = Console(stderr=True)
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        bar = progress.add_task("bench", total=parsed.steps, note="control steps")
        env = build(options.env.own_spec, task_id=options.task_id[0])
        try:
            speed = measure(env, num_steps=parsed.steps, on_step=lambda done: progress.update(bar, completed=done))
        finally:
            env.close()
    if parsed.json:
        print(json.dumps(speed.to_dict()))
        return 0
    _print(speed)
    return 0


def _print(speed: SimSpeed) -> None:
    told = speed.to_dict()
    table = Table("what", "ms a step", "share", "", title=f"{speed.task_id}: {speed.steps_per_s:.0f} control steps per second")
    for name, share in told["shares"].items():
        table.add_row(name, f"{told['ms_per_step'][name]:.2f}", f"{share:.0%}", ABOUT_SHARES[name])
    console = Console()
    console.print(table)
    console.print(f"without rendering and transport: {speed.steps_per_s_without_rendering:.0f} per second", highlight=False)
