"""Policies of LeRobot's in LeRobot's own environment: trained there, played here through the bridge, improved in the loop.

They run where that environment is (`make lerobot-env`, or OPENTAU_LEROBOT_PYTHON) and take minutes, most of them its imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from opentau.errors import OptionError
from opentau.events import EPISODE_FINISHED, NOTE, STATION, EventReader
from opentau.policies.lerobot.folder import LeRobotFolder
from opentau.rollout.lerobot_environment import lerobot_python

try:
    lerobot_python()
except OptionError as error:
    pytestmark = [pytest.mark.lerobot, pytest.mark.skip(reason=str(error))]
else:
    pytestmark = [pytest.mark.lerobot, pytest.mark.timeout(3000)]

SMALL = (
    "policy.args.options={chunk_size: 16, n_action_steps: 16, dim_model: 64, n_heads: 4, dim_feedforward: 128, "
    "n_encoder_layers: 1, n_vae_encoder_layers: 1, pretrained_backbone_weights: null}"
)
FEW = ["data.demonstrations=2", "sft.num_updates=4", "sft.batch_size=4"]
LIBERO_STEPS = 280
"""Control steps of a LIBERO object episode that does not succeed."""


def opentau(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {**os.environ, "OPENTAU_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "opentau.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)


def answer(runs: Path, *arguments: str) -> dict[str, Any]:
    """Run a command that must succeed and return its line of JSON."""
    done = opentau(runs, *arguments, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def events(runs: Path, name: str) -> list[dict]:
    (run,) = [path for path in runs.glob(name) if path.is_dir()]
    return EventReader(run).read_new()


@pytest.mark.libero
def test_an_act_policy_plays_a_full_libero_episode_with_no_late_or_malformed_chunk(tmp_path):
    trained = answer(tmp_path, "sft", "policy=lerobot", SMALL, "env=libero/object", *FEW)
    folder = LeRobotFolder.read(Path(trained["path"]))
    assert (folder.type, folder.id, folder.recorded.control_hz) == ("act", trained["id"], 20.0)
    score = answer(tmp_path, "eval", trained["path"], "env=libero/object", "--episodes", "1")
    assert (score["policy"], score["episodes"], score["errors"]) == (trained["id"], 1, 0)
    assert score["successes"] == 1 or score["mean_steps"] == LIBERO_STEPS
    seen = events(tmp_path, "eval-*")
    (episode,) = [event for event in seen if event["kind"] == EPISODE_FINISHED]
    # Malformed chunks end an episode in an error, late ones and those that answer something else are counted.
    assert episode["outcome"] in ("success", "timeout")
    assert episode["num_refused_chunks"] == 0
    assert [event["text"] for event in seen if event["kind"] == NOTE and event["level"] != "info"] == []
    assert [event for event in seen if event["kind"] == STATION and event["state"] in ("lost", "replaced")] == []


def test_filtered_behaviour_cloning_improves_an_act_policy_and_only_that_does(tmp_path):
    options = ["env=tabletop", "env.args.image_size=32", "+env.args.max_steps=60", "policy=lerobot", SMALL, *FEW, "run_id=bc"]
    options += ["iterations=1", "data.demonstrations=4"]
    options += ["update.num_updates=4", "update.batch_size=4", "collect.episodes=4", "evaluation.episodes=0"]
    options += ["evaluation.final_states=1", "gate.looks=[1]", "gate.levels=[0.01]", "improve=filtered_bc"]
    done = opentau(tmp_path, "loop", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads((tmp_path / "bc" / "state.json").read_text())["stages"]
    assert set(state) == {"demonstrations-0", "sft-0", "collect-1", "update-1", "gate-1", "final-0", "final-1"}
    kinds = {
        stage: LeRobotFolder.read(tmp_path / "bc" / "stages" / state[stage]["directory"]) for stage in ("sft-0", "update-1")
    }
    assert kinds["sft-0"].id != kinds["update-1"].id
    assert (tmp_path / "bc" / "report.html").is_file()
    assert not [p for p in psutil.Process().children(recursive=True) if "lerobot_side" in " ".join(p.cmdline())]
    refused = opentau(tmp_path, "loop", *options, "improve=recap")
    assert refused.returncode == 2
    assert "Possible is improve=filtered_bc" in refused.stderr
