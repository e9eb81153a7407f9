"""`opentau sft`: the offline part alone, from recorded datasets or scripted demonstrations to a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.stages import run_until

DESCRIPTION = """Train a policy from demonstrations, with the advantage indicator fixed positive: the loop's first two stages.
  opentau sft data.datasets=[path/to/dataset] data.demonstrations=0     a recorded LeRobot v3 dataset
  opentau sft env=libero/object task_id=3 data.demonstrations=100       scripted demonstrations"""


def main(argv: Sequence[str]) -> int:
    """Train and print where the checkpoint is."""
    return run_until("sft", argv, description=DESCRIPTION, stage="sft", has_iteration=False)
