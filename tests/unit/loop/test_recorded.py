"""A policy is trained for a robot that is known from its recordings alone, and nobody pretends to play it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opentau.cli.main import main
from opentau.data.recorded import RecordedRobot
from opentau.errors import OptionError
from opentau.policies.policy import VLAPolicy
from opentau.types import Observation, PolicyRequest
from tests.unit.data import foreign

SMALL = ("policy.args.width=32", "policy.args.depth=1", "env.args.image_size=32", "sft.num_updates=6", "sft.batch_size=8")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return foreign.write_v21(tmp_path / "dataset")


def test_sft_trains_for_a_robot_without_an_environment_and_serves_its_own_frames(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path / "runs"))
    assert main(["sft", "experiment=recorded", f"data.datasets=[{dataset}]", *SMALL, "--json"]) == 0
    made = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    policy = VLAPolicy.load(Path(made["path"]))
    assert policy.interface.cameras == {"front": foreign.SIZE}
    seen = Observation(
        images={"front": foreign.pixels(0, 1)[0]}, state=np.zeros(3, np.float32), prompt=foreign.TASKS[0], time_s=0.0
    )
    (chunk,) = policy.infer([PolicyRequest(observation=seen, episode_seed=0, tick=0)])
    assert chunk.actions.shape == (16, 2)


def test_frames_of_a_recorded_robot_are_decoded_into_the_cache(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OPENTAU_CACHE", str(tmp_path / "cache"))
    command = ["sft", "--json", "experiment=recorded", f"data.datasets=[{dataset}]", *SMALL]
    assert main([*command, "mixture.cache_gb=0.001"]) == 0
    cached = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert len(list((tmp_path / "cache/frames").rglob("*.frames"))) == len(foreign.LENGTHS)
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["path"] != cached["path"]


def test_without_a_dataset_the_missing_option_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path / "runs"))
    assert main(["sft", "experiment=recorded"]) == 2
    assert "data.demonstrations is 0 and data.datasets is empty" in capsys.readouterr().err


def test_whoever_plays_it_is_told_that_there_is_nothing_to_play(dataset):
    robot = RecordedRobot(datasets=[str(dataset)])
    assert (robot.max_steps, robot.prompt) == (max(foreign.LENGTHS), foreign.TASKS[0])
    for play in (robot.reset, robot.observe, lambda: robot.action_space):
        with pytest.raises(OptionError, match=r"known from its recordings alone .* need an environment \(env=…\)"):
            play()
