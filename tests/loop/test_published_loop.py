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

pytestmark = pytest.mark.loop

CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "lerobot_pi05_ckpt"


@pytest.mark.timeout(600)
def test_lerobots_pi05_goes_around_the_loop_and_back(tmp_path: Path) -> None:
    words = ("--tokenizer", str(CHECKPOINT / "stub_tokenizer"), "--vision-heads", "3")
    opentau(tmp_path, "checkpoint", "import", str(CHECKPOINT), "--out", str(tmp_path / "pi05"), *words)
    updated = opentau(
        tmp_path, "update", "env=tabletop", "+env.args.max_steps=60", "run_id=pi05",
        "policy=pretrained", f"policy.args.checkpoint={tmp_path / 'pi05'}", "policy.args.has_indicator_embedding=false",
        "objective.fast_weight=1", "objective.is_insulated=true", "objective.indicator_dropout=0.3", "inference.guidance=1.5",
        "data.demonstrations=4", "sft.num_updates=8", "sft.batch_size=4", "update.num_updates=4", "update.batch_size=4",
        "value.fit.num_folds=2", "value.fit.num_updates=5", "collect.episodes=4", "rollout.execute_horizon=25",
    )  # fmt: skip
    model, processor = load_model(Path(updated["path"]))
    assert processor.served_indicator is Indicator.POSITIVE
    assert processor.fast_tokenizer is not None
    before = load_file(CHECKPOINT / "model.safetensors")
    opentau(tmp_path, "checkpoint", "export", updated["path"], "--out", str(tmp_path / "out"))
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == before.keys()
    again = read_published(tmp_path / "out", options=ReadOptions(vision_heads=3))
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in model.state_dict().items())
    assert not torch.equal(
        again.weights["text_embedding.weight"], before["model.paligemma_with_expert.paligemma.lm_head.weight"]
    )
