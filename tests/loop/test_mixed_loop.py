"""A loop whose trainings are mixed with another robot, with questions and with subtasks: every stage runs, and is reused."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentau.events import TRAIN_METRICS, EventReader
from opentau.policies.policy import VLAPolicy
from tests.loop.driving import opentau

pytestmark = pytest.mark.loop

FIXTURE = Path(__file__).parents[1] / "fixtures" / "lerobot_v3_ds"


@pytest.mark.timeout(600)
def test_an_update_is_mixed_with_another_robot_with_questions_and_with_subtasks(tmp_path: Path) -> None:
    questions = tmp_path / "vqa"
    opentau(tmp_path, "data", "make-vqa", "env=tabletop", "task_id=[0,1]", "--out", str(questions), "--questions", "80")
    arm = f"{{name: arm, dataset: {FIXTURE}, cameras: {{agentview: front}}, episodes: [0, 1, 2], weight: [[0, 1], [1, 0.2]]}}"
    asked = f"{{name: vqa, questions: {questions}, weight: 1}}"
    options = (
        "experiment=tiny",
        "run_id=mixed",
        "+batch.held_out_share=0.25",
        "mixture.main_weight=2",
        "mixture.subtask_weight=1",
        "mixture.cache_gb=0.1",
        f"mixture.parts=[{arm}, {asked}]",
    )
    updated = opentau(tmp_path, "update", *options)
    assert updated["summary"]["updates"] == 20
    metrics = [event for event in EventReader(tmp_path / "mixed").read_new() if event["kind"] == TRAIN_METRICS]
    for stage in ("sft-0", "update-1"):
        names = set().union(*(event["metrics"] for event in metrics if event["stage"] == stage))
        assert {"train/flow", "train/text", "train/held_out_action_error", "time/data_wait_ms"} <= names
        assert {"train/vqa_accuracy/vqa", "train/box_iou/vqa"} <= names
    policy = VLAPolicy.load(Path(updated["path"]), embodiment="arm")
    assert policy.processor.predicts_subtask
    assert policy.interface.control_hz == 10
    assert [each.name for each in policy.processor.embodiments] == ["main", "arm"]
    again = opentau(tmp_path, "update", *options)
    assert again == updated
