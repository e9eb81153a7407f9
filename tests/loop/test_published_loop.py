"""A published π0.5, taken in, goes once around the loop with all that the papers describe, and out again for LeRobot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opentau.policies.published.reading import ReadOptions, read_published
from opentau.policies.weights import load_model
from opentau.types import Indicator
from tests.loop.driving import opentau

pytestmark = pytest.mark.cycles

CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "lerobot_pi05_ckpt"
OPTIONS = (
    "env=tabletop", "+env.args.max_steps=60", "run_id=pi05", "policy=pretrained", "policy.args.has_indicator_embedding=false",
    "objective.fast_weight=1", "objective.is_insulated=true", "objective.indicator_dropout=0.3", "inference.guidance=1.5",
    "data.demonstrations=4", "sft.num_updates=8", "sft.batch_size=4", "update.num_updates=4", "update.batch_size=4",
    "value.fit.num_folds=2", "value.fit.num_updates=5", "collect.episodes=4", "rollout.execute_horizon=25",
)  # fmt: skip


def take_in(folder: Path) -> str:
    """Take LeRobot's checkpoint in and return the option that starts from it."""
    words = ("--tokenizer", str(CHECKPOINT / "stub_tokenizer"), "--vision-heads", "3")
    opentau(folder, "checkpoint", "import", str(CHECKPOINT), "--out", str(folder / "checkpoint"), *words)
    return f"policy.args.checkpoint={folder / 'checkpoint'}"


@pytest.mark.timeout(600)
def test_lerobots_pi05_goes_around_the_loop_and_back(tmp_path: Path) -> None:
    updated = opentau(tmp_path, "update", *OPTIONS, take_in(tmp_path))
    require_goes_back(tmp_path, Path(updated["path"]))


def require_goes_back(folder: Path, updated: Path) -> None:
    """Export an updated policy and compare: LeRobot's names, our weights, and trained ones."""
    model, processor = load_model(updated)
    assert processor.served_indicator is Indicator.POSITIVE
    assert processor.fast_tokenizer is not None
    before = load_file(CHECKPOINT / "model.safetensors")
    opentau(folder, "checkpoint", "export", str(updated), "--out", str(folder / "out"))
    assert load_file(folder / "out" / "model.safetensors").keys() == before.keys()
    again = read_published(folder / "out", options=ReadOptions(vision_heads=3))
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in model.state_dict().items())
    assert not torch.equal(
        again.weights["text_embedding.weight"], before["model.paligemma_with_expert.paligemma.lm_head.weight"]
    )
