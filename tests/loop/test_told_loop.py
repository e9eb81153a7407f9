"""A loop without a value function: policies are told in words how episodes went, and asked for the best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentau.cli.main import main
from opentau.data.telling import told_text
from opentau.policies.processor import Processor
from tests.loop.driving import at_stage, finish, kill_when, stage_ids, start

pytestmark = pytest.mark.cycles

OPTIONS = (
    "experiment=tiny", "run_id=told", "improve=metadata", "improve.args.speeds=[slow,fast]", "iterations=2",
    "gate.is_open=true", "collect.episodes=4", "collect.supervised_share=0.5", "data.demonstrations=6", "sft.num_updates=10",
    "update.num_updates=12", "evaluation.episodes=0", "evaluation.final_states=2", "rollout.batch_size=1",
)  # fmt: skip


@pytest.mark.timeout(900)
def test_each_iteration_tells_its_policy_how_episodes_went_and_a_killed_run_ends_the_same(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    finish(whole, OPTIONS)
    stages = {path.name.rpartition("-")[0]: path for path in (whole / "told" / "stages").iterdir()}
    assert not [name for name in stages if name.startswith(("value", "label"))]
    asked = told_text({"quality": "high", "speed": "fast"})
    for name, text in {"sft-0": "", "update-1": asked, "update-2": asked}.items():
        assert Processor.load(stages[name]).served_text == text
    written = json.loads((stages["update-2"] / "metadata.json").read_text())
    assert written["asked"] == asked
    assert set(written["episodes"]) == {"slow", "fast"}
    assert sum(written["episodes"].values()) >= 6, "the demonstrations at least"

    killed = tmp_path / "killed"
    with start(killed, OPTIONS) as process:
        assert kill_when(process, killed / "told", at_stage("update-1"))
    finish(killed, OPTIONS)
    assert stage_ids(killed / "told") == stage_ids(whole / "told")


def test_a_prompt_without_room_for_metadata_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    assert main(["sft", *OPTIONS, "+policy.args.max_prompt_tokens=12"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "quality: high, speed: fast" in said
    assert "max_prompt_tokens" in said
    assert not list((tmp_path / "told" / "stages").glob("sft-0*"))
