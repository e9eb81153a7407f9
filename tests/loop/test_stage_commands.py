"""Commands on their own: `sft` from a recorded dataset, `eval` of its checkpoint, equal episodes in any company."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opentau.loop.ledger import read_results

pytestmark = pytest.mark.loop


def opentau(runs: Path, *arguments: str) -> dict[str, Any]:
    """Run a command and return what it prints as JSON."""
    environment = {**os.environ, "OPENTAU_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "opentau.cli.main", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def digests(runs: Path) -> list[str]:
    ledger = next(runs.glob("eval-*/stages/evaluate-0-*/episodes.jsonl"))
    return [result.digest for result in read_results(ledger)]


@pytest.mark.timeout(600)
def test_sft_trains_from_a_recorded_dataset_and_eval_scores_it_alike_alone_and_in_company(
    tmp_path: Path, undisturbed: Path
) -> None:
    recorded = next((undisturbed / "stages").glob("demonstrations-0-*"))
    tiny = ("experiment=tiny", "data.demonstrations=0", f"data.datasets=[{recorded}]")
    checkpoint = opentau(tmp_path / "sft", "sft", *tiny, "--json")
    assert checkpoint["summary"]["updates"] == 40
    scores = [
        opentau(
            tmp_path / name,
            "eval",
            checkpoint["path"],
            "experiment=tiny",
            f"rollout.num_stations={n}",
            "--episodes=6",
            "--json",
        )
        for name, n in (("alone", 1), ("company", 3))
    ]
    assert scores[0] == scores[1]
    assert scores[0]["policy"] == checkpoint["id"]
    assert scores[0]["episodes"] == 6
    assert digests(tmp_path / "alone") == digests(tmp_path / "company")
    assert len(set(digests(tmp_path / "alone"))) == 6
