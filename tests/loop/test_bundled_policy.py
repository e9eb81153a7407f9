"""A newcomer's first command: score a policy that comes with OpenTau, and see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from opentau.policies.bundled import Scored, bundled


@pytest.mark.libero
@pytest.mark.timeout(600)
def test_a_bundled_policy_is_scored_and_filmed_by_one_command(tmp_path: Path) -> None:
    words = ["eval", "policy=bundled/nano-libero-object", "task_id=8", "--episodes=4", "--video", "--json"]
    command = [sys.executable, "-P", "-m", "opentau.cli.main", *words]
    environment = {**os.environ, "OPENTAU_RUNS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    score = json.loads(done.stdout.strip().splitlines()[-1])
    assert list(score["tasks"]) == ["libero_object/8"]
    assert score["episodes"] == 4
    assert score["successes"] >= 3
    scored = Scored.read(bundled()["nano-libero-object"])
    assert scored is not None
    assert scored.is_official
    (path,) = score["videos"]
    with av.open(path) as film:
        assert sum(1 for _ in film.decode(video=0)) > 50
