"""What a run would do and cost, before it does: `--dry-run`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from opentau.loop.budget import estimate
from opentau.loop.options import LoopOptions

DRY_RUN_HELP = "print the plan, its CPU-minutes and its disk, and stop"


def print_plan(options: LoopOptions, directory: Path, *, last_stage: str | None = None) -> None:
    """Print the expected cost of every stage up to one, and of all of them together."""
    table = Table("stage", "work", "CPU min", "disk MB")
    costs = estimate(options)
    if last_stage is not None:
        costs = costs[: [cost.stage for cost in costs].index(last_stage) + 1]
    for cost in costs:
        table.add_row(cost.stage, cost.work, f"{cost.cpu_s / 60:.1f}", f"{cost.disk_bytes / 1e6:.0f}")
    total_cpu, total_disk = sum(cost.cpu_s for cost in costs), sum(cost.disk_bytes for cost in costs)
    table.add_row("total", "", f"{total_cpu / 60:.0f}", f"{total_disk / 1e6:.0f}")
    console = Console()
    console.print(table)
    state = "resumes" if directory.exists() else "would be made"
    console.print(f"run directory: {directory} ({state})", highlight=False)
