"""A study on the tabletop, far too small to learn: rows share stages, resume, and give the same numbers again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opentau.checkpoint import read_manifest
from opentau.loop.ledger import LEDGER_FILE, read_results
from opentau.study.rows import read_rows

pytestmark = pytest.mark.loop

STUDY = """
question: Does anything differ?
hypotheses: [recap beats resft]
primary: success on fresh placements
comparisons: [[recap, resft]]
base:
  - experiment=tiny
  - iterations=1
  - data.demonstrations=4
  - sft.num_updates=6
  - update.num_updates=4
  - value.fit.num_updates=5
  - collect.episodes=4
  - evaluation.episodes=0
  - evaluation.final_states=0
  - evaluation.final_episodes=4
  - gate.is_open=true
variants:
  recap: ["evaluation.final_indicators=[negative]"]
  resft: [improve=resft]
tasks: [[2, 0]]
seeds: [3]
"""


def study(runs: Path, *arguments: str) -> str:
    yaml = runs / "small.yaml"
    runs.mkdir(exist_ok=True)
    yaml.write_text(STUDY)
    environment = {**os.environ, "OPENTAU_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "study", str(yaml), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_a_study_shares_stages_resumes_and_gives_identical_numbers_again(tmp_path: Path) -> None:
    first = tmp_path / "first"
    study(first)
    folder = first / "study-small"
    names = sorted(path.name.rsplit("-", 1)[0] for path in (folder / "stages").iterdir())
    assert names.count("sft-0") == names.count("collect-1") == names.count("value-1") == names.count("final-0") == 1
    assert names.count("label-1") == names.count("update-1") == names.count("final-1") == 2
    rows = read_rows(folder / "rows.json")
    assert [(row.variant, row.task, row.seed, sorted(row.scores)) for row in rows] == [
        ("recap", 0, 3, ["final", "final-negative", "first"]),
        ("recap", 2, 3, ["final", "final-negative", "first"]),
        ("resft", 0, 3, ["final", "first"]),
        ("resft", 2, 3, ["final", "first"]),
    ]
    assert [row.scores["first"] for row in rows[:2]] == [row.scores["first"] for row in rows[2:]]
    played = read_results(next(folder.glob("stages/final-0-*")) / LEDGER_FILE)
    for row in rows[:2]:
        of_task = [result for result in played if result.plan.task_id == f"tabletop/{row.task}"]
        assert len(of_task) == 4
        assert row.scores["first"].num_steps == tuple(result.num_steps for result in of_task)
    spent_s = sum(read_manifest(stage)["cpu_seconds"] for stage in (folder / "stages").iterdir())
    assert sum(row.own_cpu_seconds for row in rows) == pytest.approx(spent_s)
    assert "recap" in (folder / "page.md").read_text()

    (folder / "resft-task2_0-seed3" / "rows.json").unlink()
    made = {path.name: path.stat().st_mtime for path in (folder / "stages").iterdir()}
    study(first)
    assert {path.name: path.stat().st_mtime for path in (folder / "stages").iterdir()} == made

    elsewhere = tmp_path / "elsewhere"
    study(elsewhere, "--out", str(folder))
    assert read_rows(folder / "rows.json") == rows
    assert not list((elsewhere / "study-small" / "stages").iterdir())

    again = tmp_path / "again"
    study(again)
    repeated = read_rows(again / "study-small" / "rows.json")
    assert [row.scores for row in repeated] == [row.scores for row in rows]
    assert [row.facts for row in repeated] == [row.facts for row in rows]


def test_a_dry_run_says_what_a_study_costs_and_a_wrong_variant_is_named(tmp_path: Path) -> None:
    assert "CPU-hours" in study(tmp_path, "--dry-run")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(STUDY.replace("[[recap, resft]]", "[[recap, resfd]]"))
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "study", str(wrong), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "resfd" in done.stderr
    assert "resft" in done.stderr
