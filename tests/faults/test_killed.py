"""SIGKILL at random ticks, of whatever takes part in a run: each is started again, and nothing is lost or done twice."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from opentau.events import EPISODE_FINISHED, EventReader
from opentau.types import Outcome
from robot_bridge.viewing.client import RemoteRunClient
from tests.faults.scene import Scene, kill, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]


def random_ticks(seed: int, number: int) -> list[int]:
    return np.random.default_rng(seed).integers(10, 70, number).tolist()


def finished_once(scene: Scene) -> None:
    """Check that the run's own events name every episode, and none that was recorded twice."""
    events = [event for event in EventReader(scene.folder / "run").read_new() if event["kind"] == EPISODE_FINISHED]
    assert {event["episode_id"] for event in events} >= {f"collect-1/{index}" for index in range(scene.num_episodes)}


def test_a_run_killed_at_random_ticks_goes_on_where_it_was(make_scene):
    scene = make_scene(num_episodes=3)
    run = scene.start_run()
    arm = scene.start_arm()
    for num_ticks in random_ticks(0, 2):
        scene.let_play(num_ticks, arm=arm)
        kill(run)
        run = scene.start_run()
    scene.finish(run, arm)
    scene.episodes()


def test_an_arm_s_program_killed_at_random_ticks_is_started_again_and_plays_what_it_owed(make_scene):
    scene = make_scene(num_episodes=2)
    run = scene.start_run()
    arm = scene.start_arm()
    for num_ticks in random_ticks(2, 2):
        scene.let_play(num_ticks, arm=arm)
        kill(arm)
        num_commands = scene.num_commands
        assert run.poll() is None
        arm = scene.start_arm()
        assert scene.num_commands >= num_commands
    scene.finish(run, arm)
    assert {str(episode["outcome"]) for episode in scene.episodes()} == {str(Outcome.TIMEOUT)}


def test_a_policy_killed_in_its_process_ends_its_run_with_a_word_and_the_next_start_goes_on(make_scene):
    scene = make_scene(num_episodes=2, has_policy_process=True)
    run = scene.start_run()
    arm = scene.start_arm()
    scene.let_play(random_ticks(3, 1)[0], arm=arm)
    pid = int((scene.folder / "policy.pid").read_text())
    assert "tests.faults.dated_policy\0--session" in Path(f"/proc/{pid}/cmdline").read_text()
    assert f"PPid:\t{run.pid}\n" in Path(f"/proc/{pid}/status").read_text()
    os.kill(pid, signal.SIGKILL)
    until(lambda: run.poll() is not None, why="the run notices")
    assert run.returncode != 0
    assert "ended (signal 9)" in scene.said("run")
    assert arm.poll() is None, "the arm waits for the next run"
    run = scene.start_run()
    scene.finish(run, arm)
    scene.episodes()


def test_a_viewer_killed_at_random_ticks_changes_nothing_and_the_next_one_sees_all(make_scene):
    scene = make_scene(num_episodes=3)
    run = scene.start_run()
    arm = scene.start_arm()
    endpoint, seen = f"tcp://127.0.0.1:{scene.viewing_port}", scene.folder / "seen"
    for num_ticks in random_ticks(4, 2):
        seen.unlink(missing_ok=True)
        viewer = scene.start(sys.executable, "-P", "-m", "tests.faults.viewer", endpoint, str(seen), name="viewer")
        until(seen.is_file, why="the viewer sees the run")
        scene.let_play(num_ticks // 2, arm=arm)
        kill(viewer)
    with RemoteRunClient(endpoint, answer_s=30.0) as client:
        num_events = len(client.new_events())
    assert num_events
    scene.finish(run, arm)
    assert {str(episode["outcome"]) for episode in scene.episodes()} == {str(Outcome.TIMEOUT)}
    finished_once(scene)
