"""`opentau data mix`: what the options of a mixture would give."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from opentau.cli.compose import compose_config, parser
from opentau.data.parquet import commit_bytes
from opentau.loop.options import LoopOptions
from opentau.loop.preview import PartView, preview
from opentau.loop.setting import describe_tasks
from opentau.types import Interface

DESCRIPTION = """Show what a mixture would give, with the options that `opentau sft` and `opentau loop` take: the share of every
part at the beginning and the end of training, what is masked, whose statistics are used, and one decoded batch as a picture.
  opentau data mix mixture.parts=[{name: arm, dataset: owner/name, weight: 0.5, cameras: {agentview: front}}]
  opentau data mix "mixture.parts=[{name: vqa, questions: data/vqa, weight: [[0, 1], [1, 0.2]]}]" --picture batch.png
A part is a robot (dataset) or questions about images (questions). Its options:
  weight        a number, or [[progress, weight], …] to change over the training
  episodes      episode_index of those to use
  cameras       {the policy's camera: the dataset's}; cameras that a part lacks are masked out
  embodiment    parts of one embodiment share statistics; 'main' is the environment's own
  action_space  delta_ee, absolute_ee, delta_joint, absolute_joint: what LeRobot does not record
  control_hz    bring the episodes to this rate; without, the prompt tells theirs
  balance       what is drawn alike: task (and the episodes of each), episode or frame
  hint          words added to its prompts instead of robot and rate"""


def main(argv: Sequence[str]) -> int:
    """Print the table and write the picture."""
    arguments = parser("data mix", DESCRIPTION)
    arguments.add_argument("--picture", type=Path, default=Path("mixture.png"), help="where one batch is drawn (mixture.png)")
    arguments.add_argument("--dry-run", action="store_true", help="accepted for symmetry: this command never trains")
    arguments.add_argument("--json", action="store_true", help="one line: {parts, picture}")
    parsed = arguments.parse_intermixed_args(argv)
    options = LoopOptions.from_config(compose_config("loop", parsed.options))
    tasks = describe_tasks(options, on_line=lambda line: None)
    shown = preview(options, Interface.from_dict(tasks[0].interface))
    file = io.BytesIO()
    shown.picture().save(file, format="PNG")
    commit_bytes(file.getvalue(), parsed.picture)
    rows = [dataclasses.asdict(row) for row in shown.rows]
    if parsed.json:
        print(json.dumps({"parts": rows, "picture": str(parsed.picture)}))
        return 0
    table = Table("", *(row.name for row in shown.rows))
    for name, values in _attributes(shown.rows).items():
        table.add_row(name, *values)
    console = Console()
    console.print(table)
    console.print(f"one batch: {parsed.picture}", highlight=False)
    return 0


def _attributes(rows: Sequence[PartView]) -> dict[str, list[str]]:
    """Return what is known of the parts, attribute by attribute, so that the table stays narrow."""
    return {
        "kind": [row.kind for row in rows],
        "size": [f"{row.size:,}" if row.size else "recorded later" for row in rows],
        "share at first": [f"{row.first_share:.0%}" for row in rows],
        "share at last": [f"{row.last_share:.0%}" for row in rows],
        "state": [row.state for row in rows],
        "action": [row.action for row in rows],
        "rate": [row.rate for row in rows],
        "cameras": [row.cameras for row in rows],
        "masked cameras": [row.missing_cameras for row in rows],
        "embodiment": [row.embodiment for row in rows],
        "statistics": [row.statistics_id for row in rows],
    }
