"""The main job on a real LIBERO task, at a size that only shows that every stage does its work there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opentau.data.lerobot.dataset import Dataset
from opentau.loop.ledger import read_results
from opentau.types import Outcome, Source
from tests.loop.driving import finish

SMALL = (
    "experiment=quick",
    "run_id=run",
    "env=libero/object",
    "env.args.image_size=64",
    "torch_threads=2",
    "data.demonstrations=3",
    "sft.num_updates=30",
    "sft.batch_size=16",
    "update.num_updates=10",
    "update.batch_size=16",
    "value.fit.num_folds=2",
    "value.fit.num_updates=20",
    "collect.episodes=2",
    "collect.supervised_share=0.5",
    "evaluation.episodes=1",
    "evaluation.final_states=1",
    "gate.looks=[1]",
    "gate.levels=[0.03]",
)


@pytest.mark.libero
@pytest.mark.timeout(600)
def test_the_loop_runs_on_libero_object_task_0(tmp_path: Path) -> None:
    finish(tmp_path, SMALL)
    run = tmp_path / "run"
    demonstrations = Dataset(next((run / "stages").glob("demonstrations-0-*")))
    assert sum(info.outcome is Outcome.SUCCESS for info in demonstrations.episodes) == 3
    collected = Dataset(next((run / "stages").glob("collect-1-*")))
    assert len(collected) == 2
    assert (collected.load(0).source == Source.AUTONOMOUS).any()
    final = read_results(next((run / "stages").glob("final-0-*")) / "episodes.jsonl")
    assert [result.plan.initial_state for result in final] == [0]
    report = (run / "report.html").read_text()
    assert "<svg" in report
    assert "not finished" not in report
    status = subprocess.run(
        [sys.executable, "-P", "-m", "opentau.cli.main", "status", str(run), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(status.stdout)
    assert [row["episodes"] for row in printed["iterations"]] == [1, 1]
    assert len(printed["final"]) == 2
    assert set(printed["final"][0]) == {"policy", "episodes", "successes", "interval"}
