"""The first run of a checkpoint on a robot is a slow one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from opentau.errors import RobotError
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.workcell.first_runs import FirstRuns
from tests.unit.bridge.rigs import ScriptedTeleop, require_within_limits, rig


def test_the_first_run_of_a_checkpoint_moves_at_a_quarter_of_the_limits_says_so_and_is_remembered(tmp_path):
    state = tmp_path / "first_runs.json"
    fast = {"jump": 40.0, "chunking": ChunkingOptions(mode="naive", num_warm_up=0), "state": state, "known": ()}
    first = rig(**fast)
    played = first.play()
    require_within_limits(first.arm.commands, scale=0.25)
    assert played.report.is_first_run
    assert first.said == ["first run of v1 on this robot: it moves at 0.25 of its limits in this episode"]
    assert json.loads(state.read_text()) == {"policy_versions": ["v1"]}
    second = rig(**fast)
    assert not second.play().report.is_first_run
    assert np.abs(np.diff(np.array(second.arm.commands), axis=0)).max() > 0.76
    third = rig(**fast, version="v2")
    assert third.play().report.is_first_run


def test_a_first_run_that_was_stopped_is_still_to_be_had(tmp_path):
    run = rig(state=tmp_path / "f.json", known=(), teleop=ScriptedTeleop(stops_at=30))
    run.play()
    assert not FirstRuns(tmp_path / "f.json").has_run("v1")


def test_a_damaged_memory_of_first_runs_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "f.json").write_text("[]")
    with pytest.raises(RobotError, match="delete it"):
        FirstRuns(tmp_path / "f.json")
