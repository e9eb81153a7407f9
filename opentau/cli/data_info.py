"""`opentau data info`: what a dataset holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from opentau.cli.data_arguments import dataset_parser, size_text
from opentau.data.lerobot.hub import find_dataset
from opentau.data.tools.describe import Description, describe

MAX_TASKS = 20
"""Rows of the table of tasks; --json has all."""


def main(argv: Sequence[str]) -> int:
    """Describe a dataset."""
    options = dataset_parser("info", "Show what a dataset holds.").parse_args(argv)
    description = describe(find_dataset(options.path))
    if options.json:
        print(json.dumps(description.to_dict()))
        return 0
    console = Console()
    console.print(_overview(description))
    console.print(_tasks(description.tasks))
    return 0


def _overview(description: Description) -> Table:
    table = Table(show_header=False)
    cameras = [f"{camera.name} {'x'.join(map(str, camera.shape))} ({camera.codec})" for camera in description.cameras]
    rows = {
        "dataset": description.path,
        "layout": f"LeRobot {description.version}{', by OpenTau' if description.is_ours else ''}",
        "robot": description.robot_type,
        "rate": f"{description.fps:g} Hz",
        "episodes": f"{description.num_episodes} ({_counts(description.outcomes)})",
        "frames": f"{description.num_frames}, {description.hours:.2f} hours ({_counts(description.sources)})",
        "cameras": "\n".join(cameras) or "none",
        "state": _names(description.state_names),
        "action": f"{_names(description.action_names)}; {description.action_space}",
        "size": size_text(description.bytes),
        "id": description.dataset_id,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _tasks(tasks: Mapping[str, int]) -> Table:
    table = Table("task", "episodes")
    for prompt, count in list(tasks.items())[:MAX_TASKS]:
        table.add_row(prompt, str(count))
    if len(tasks) > MAX_TASKS:
        table.add_row(f"… and {len(tasks) - MAX_TASKS} more", "")
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _names(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "none"
