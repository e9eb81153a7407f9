"""A trained policy behind openpi's protocol plays our environment through it, each side a program of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loop.driving import opentau

pytestmark = pytest.mark.loop

ENV = ("env=tabletop", "+env.args.max_steps=60", "rollout.num_stations=1")
TRAINING = ("data.demonstrations=2", "sft.num_updates=2", "sft.batch_size=4")
CAMERAS = {"agentview": "observation/image", "wrist": "observation/wrist_image"}
REMOTE = """openpi: {url}
action_horizon: 16
cameras: {{agentview: observation/image, wrist: observation/wrist_image}}
is_mirrored: true
"""


def start_gateway(folder: Path, checkpoint: str) -> subprocess.Popen[str]:
    words = [word for ours, theirs in CAMERAS.items() for word in ("--camera", f"{ours}={theirs}")]
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "gateway", "openpi", checkpoint, "--port", "0", "--mirrored"]
    environment = {**os.environ, "OPENTAU_RUNS": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *words], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_policy_of_ours_is_evaluated_through_openpis_protocol(tmp_path: Path) -> None:
    trained = opentau(tmp_path, "sft", *ENV, *TRAINING)
    with start_gateway(tmp_path, trained["path"]) as gateway:
        try:
            url = re.search(r"ws://[0-9.:]+", gateway.stdout.readline()).group()
            (tmp_path / "remote.yaml").write_text(REMOTE.format(url=url))
            score = opentau(tmp_path, "eval", str(tmp_path / "remote.yaml"), *ENV, "task_id=0", "--episodes", "2")
        finally:
            gateway.send_signal(signal.SIGINT)
        said = gateway.stdout.read()
    assert (score["episodes"], score["errors"], score["successes"]) == (2, 0, 0)  # two updates teach nothing
    assert f"answered {2 * -(-60 // 8)} observations" in said
    assert gateway.returncode == 0
