"""A policy in a process of its own: asked as one in this process is, and never trusted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from opentau.errors import PolicyError
from opentau.rollout.policy_process import PolicyProcess
from opentau.rollout.session import RolloutSession
from opentau.types import Observation, PolicyRequest
from tests.fakes import CAMERAS, ScriptedPolicy, counting_interface
from tests.unit.rollout.sessions import options, plan


def process(tmp_path: Path, accident: str = "none") -> PolicyProcess:
    program = [sys.executable, "-m", "tests.unit.rollout.answering", accident]
    return PolicyProcess(
        lambda arguments: [*program, *arguments],
        interface=counting_interface(),
        camera_keys={camera: f"observation.images.{camera}" for camera in CAMERAS},
        policy_version="far-1",
        environment=lambda folder: os.environ,
        log_path=tmp_path / "logs" / "policy.log",
        answer_timeout_s=20.0,
    )


def request(tick: int) -> PolicyRequest:
    images = {camera: np.zeros((8, 8, 3), np.uint8) for camera in CAMERAS}
    seen = Observation(images=images, state=np.array([0, 0, 1, tick], np.float32), prompt="reach", time_s=0.0)
    return PolicyRequest(observation=seen, episode_seed=2**62, tick=tick)


def test_it_answers_as_the_same_policy_does_in_this_process_and_leaves_nothing_behind(tmp_path):
    here = ScriptedPolicy(version="far-1")
    with process(tmp_path) as far:
        pid = far.pid
        assert far.action_horizon == here.action_horizon
        answers = far.infer([request(tick) for tick in range(3)])
    for there, answer in zip(answers, here.infer([request(tick) for tick in range(3)]), strict=True):
        np.testing.assert_array_equal(there.actions, answer.actions)
        assert there.policy_version == "far-1"
    assert not psutil.pid_exists(pid)


def test_stations_play_the_same_episodes_with_it(tmp_path):
    plans = [plan(0), plan(1, task_id="counting/1")]
    with process(tmp_path) as far, RolloutSession(options(num_stations=2, delay_ticks=0), policies={"p": far}) as session:
        played = session.run(plans)
    here = ScriptedPolicy(version="far-1")
    with RolloutSession(options(num_stations=1, delay_ticks=0), policies={"p": here}) as session:
        assert session.run(plans) == played


@pytest.mark.parametrize(
    ("accident", "words"),
    [
        ("short", r"actions of shape \(11, 2\); a chunk is \(12, 2\) finite numbers"),
        ("nan", r"that are not finite; a chunk is \(12, 2\)"),
        ("another", r"answered request 1 with Chunk"),
    ],
)
def test_a_malformed_chunk_is_never_handed_on(tmp_path, accident, words):
    with process(tmp_path, accident) as far, pytest.raises(PolicyError, match=words):
        far.infer([request(0)])


def test_a_death_is_told_with_its_last_words(tmp_path):
    with process(tmp_path, "dies") as far:
        far.infer([request(0)])
        with pytest.raises(PolicyError, match=r"ended \(exit code 3\). Its last words: (.|\n)*the weights fell off"):
            far.infer([request(1)])


def test_a_policy_that_refuses_the_robot_says_why_and_is_gone(tmp_path):
    refusing = process(tmp_path, "refuses")
    with pytest.raises(PolicyError, match="these eyes see nothing"), refusing:
        pass
    assert not psutil.pid_exists(refusing.pid)


def test_a_program_that_cannot_start_is_told_with_what_it_said(tmp_path):
    broken = process(tmp_path)
    broken._command = lambda arguments: [sys.executable, "-c", "raise SystemExit('no such environment')"]
    with pytest.raises(PolicyError, match="no such environment"), broken:
        pass
