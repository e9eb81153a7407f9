"""`opentau checkpoint export`: a π0 or π0.5 of ours in LeRobot's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from opentau.cli.compose import parser
from opentau.policies.published.exporting import export_lerobot

DESCRIPTION = """Write a π0 or π0.5 as LeRobot 0.6.1 stores it: weights, scaling, processors; what differs there is refused.
  opentau checkpoint export runs/RUN/stages/update-1-… --out checkpoints/for-lerobot"""


def main(argv: Sequence[str]) -> int:
    """Export a checkpoint."""
    arguments = parser("checkpoint export", DESCRIPTION, takes_options=False)
    arguments.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint of ours")
    arguments.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="LeRobot's folder; must not exist")
    arguments.add_argument(
        "--without-indicator", action="store_true", help="leave out what LeRobot's action expert cannot be told"
    )
    arguments.add_argument("--json", action="store_true", help="one line of JSON")
    parsed = arguments.parse_args(argv)
    left_out = export_lerobot(parsed.checkpoint, parsed.out, without_indicator=parsed.without_indicator)
    if parsed.json:
        print(json.dumps({"path": str(parsed.out), "left_out": left_out}))
        return 0
    console = Console()
    console.print("[green]✓[/] written for LeRobot 0.6.1", highlight=False)
    if left_out:
        console.print(f"  LeRobot has no place for {', '.join(left_out)}", style="yellow", highlight=False)
    print(parsed.out)
    return 0
