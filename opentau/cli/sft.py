"""`opentau sft`: the offline part alone, from recorded datasets or scripted demonstrations to a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.cli.stages import run_until

DESCRIPTION = """Train a policy from demonstrations, with the advantage indicator fixed positive: the loop's first two stages.
  opentau sft experiment=recorded data.datasets=[owner/name]            a robot known from a LeRobot dataset, no environment
  opentau sft data.datasets=[path/to/dataset] data.demonstrations=0     a recorded dataset of the environment
  opentau sft mixture.parts=[{name: arm, dataset: owner/name, weight: 0.5}, {name: vqa, questions: folder}]
                                                                        mixed with others; opentau data mix shows it first
  opentau sft env=libero/object task_id=3 data.demonstrations=100       scripted demonstrations"""


def main(argv: Sequence[str]) -> int:
    """Train and print where the checkpoint is."""
    return run_until("sft", argv, description=DESCRIPTION, stage="sft", has_iteration=False)
