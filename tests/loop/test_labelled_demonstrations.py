"""Demonstrations alone are labelled by a critic with eyes of its own, and a policy is pre-trained with its indicator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opentau.data.labels import Labels
from opentau.types import Indicator
from tests.loop.driving import opentau

pytestmark = pytest.mark.cycles

SMALL = "value.critic.features.args"
OPTIONS = (
    "experiment=tiny", "run_id=run", "value=vlm", "+value.labels.demonstration_share=0.3", "data.demonstrations=6",
    "evaluation.episodes=0", "sft.num_updates=10", "update.num_updates=5",
    f"{SMALL}.vision.image_size=32", f"{SMALL}.vision.patch_size=8", f"{SMALL}.vision.width=32", f"{SMALL}.vision.depth=1",
    f"{SMALL}.vision.num_heads=2", f"{SMALL}.vision.mlp_dim=64", f"{SMALL}.backbone.width=64", f"{SMALL}.backbone.depth=2",
    f"{SMALL}.backbone.num_heads=2", f"{SMALL}.backbone.head_dim=32", f"{SMALL}.backbone.mlp_dim=128",
    f"{SMALL}.vocab_size=2048", f"+{SMALL}.has_state_token=true", "value.fit.num_folds=2", "value.fit.num_updates=60",
    "value.fit.batch_size=32", "value.fit.learning_rate=1.0e-3", "value.fit.num_warmup_updates=5",
    "value.fit.precision=float32",
)  # fmt: skip


@pytest.mark.timeout(600)
def test_demonstrations_are_labelled_to_their_end_and_a_policy_is_pretrained_with_the_labels(tmp_path: Path) -> None:
    labelled = opentau(tmp_path, "label", "--iteration", "0", *OPTIONS)
    labels = Labels.read(Path(labelled["path"]) / "labels")
    assert np.allclose(labels.advantages, labels.returns - labels.values, atol=1e-6), "N = T"
    assert labels.values.std() > 0
    is_positive, succeeded = labels.indicator == Indicator.POSITIVE, labels.returns > -1
    assert is_positive[succeeded].mean() == pytest.approx(0.3, abs=0.01)
    assert labels.advantages[is_positive].min() > labels.advantages[~is_positive].max()

    updated = opentau(tmp_path, "update", "--iteration", "0", *OPTIONS)
    assert updated["stage"] == "update-0"
    assert "cond_gap" in str(updated["summary"])
    stages = json.loads((tmp_path / "run" / "state.json").read_text())["stages"]
    assert set(stages) == {"demonstrations-0", "sft-0", "value-0", "label-0", "update-0"}
