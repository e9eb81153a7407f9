"""A robot in real time behind the real link, in a process of its own: the same station program as for simulators."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from opentau.events import EPISODE_FINISHED, EventLog, EventReader
from opentau.rollout.session import RolloutSession
from opentau.types import Observation, Outcome, PolicyRequest
from robot_bridge.config import StationConfig
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.station_link import StationLink
from robot_bridge.workcell.limits import Limits
from tests.fakes import ARM_LIMITS, FAKE_ARM, ArmPolicy, FakeArm
from tests.unit.rollout.sessions import options, plan

TASKS = {"arm/0": {"prompt": "wave", "max_steps": 45}}
ROBOT = {"env": {}, "robot": FAKE_ARM, "limits": "limits.yaml", "expert": None, "supervisor": None, "perturbation": None}


def start(session: RolloutSession, folder: Path, **changes: object) -> subprocess.Popen[bytes]:
    (folder / "limits.yaml").write_text(yaml.safe_dump(ARM_LIMITS))
    config = dataclasses.replace(session.station_config("arm"), **(ROBOT | changes))
    config.save(folder / "station.yaml")
    with open(folder / "station.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "robot_bridge.station", str(folder / "station.yaml")], stdout=log, stderr=log
        )


def test_a_robot_plays_in_real_time_within_its_limits_and_uploads_what_it_executed(tmp_path):
    plans = [plan(index, task_id="arm/0") for index in range(2)]
    played: list = []
    with (
        EventLog(tmp_path, "main") as log,
        RolloutSession(
            options(num_stations=0, tasks=TASKS, chunking=ChunkingOptions(num_warm_up=1)),
            policies={"p": ArmPolicy(infer_s=0.05)},
            events=log,
        ) as session,
    ):
        episodes: list = []

        def run() -> None:
            played.extend(session.run(plans, on_episode=lambda _, episode: episodes.append(episode)))

        thread = threading.Thread(target=run)
        thread.start()
        station = start(session, tmp_path)
        thread.join(60)
    assert station.wait(30) == 0
    assert [result.outcome for result in played] == [Outcome.TIMEOUT] * 2
    for episode in episodes:
        assert len(episode) == 45
        assert episode.limits_id == Limits.from_plain(ARM_LIMITS).id
        path = episode.executed_action.astype(np.float64)
        assert (np.abs(np.diff(path, axis=0)) <= np.array([3.0, 3.0, 5.0]) + 1e-4).all()
        assert path[-1, 0] > path[0, 0] + 3, "it moved"
    reports = [event["playback"] for event in EventReader(tmp_path).read_new() if event["kind"] == EPISODE_FINISHED]
    assert [report["is_first_run"] for report in reports] == [True, False]
    assert all(report["timing"]["num_ticks"] >= 45 for report in reports)
    assert json.loads((tmp_path / "first_runs.json").read_text()) == {"policy_versions": ["arm-1"]}
    assert "first run of arm-1" in (tmp_path / "station.log").read_text()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"limits": ""}, "a robot does not move without limits"),
        ({"limits": "other.yaml"}, "other.yaml"),
        ({"clock": "wall"}, "clock is 'wall'"),
        ({"chunking": {"mode": "smooth"}}, "chunking.mode is 'smooth'"),
        ({"env": {"target": "tests.fakes:CountingEnv", "args": {}}}, "set `env` or `robot`"),
    ],
)
def test_a_configuration_that_does_not_fit_a_robot_is_refused_in_one_line(tmp_path, changes, text):
    (tmp_path / "limits.yaml").write_text(yaml.safe_dump(ARM_LIMITS))
    endpoints = {"control_endpoint": "tcp://127.0.0.1:9", "inference_endpoint": "tcp://127.0.0.1:9"}
    plain = {"session": "s", "station_id": "arm", "tasks": TASKS, "robot": FAKE_ARM, "limits": "limits.yaml"} | endpoints
    (tmp_path / "station.yaml").write_text(yaml.safe_dump(plain | changes))
    command = [sys.executable, "-P", "-m", "robot_bridge.station", str(tmp_path / "station.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_robots_loop_never_waits_for_a_server_that_takes_nothing():
    config = StationConfig(
        session="s",
        station_id="arm",
        control_endpoint="tcp://127.0.0.1:9",
        inference_endpoint="tcp://127.0.0.1:9",
        robot=FAKE_ARM,
        limits="limits.yaml",
        tasks=TASKS,
    )
    arm = FakeArm()
    seen = Observation(images=arm.read().images, state=arm.read().state, prompt="wave", time_s=0.0)
    began = time.monotonic()
    with StationLink(config) as link:
        for tick in range(50):
            link.ask(plan(0, task_id="arm/0"), PolicyRequest(observation=seen, episode_seed=1, tick=tick), seq=link.next_seq())
            assert link.arrived_reply() is None
    assert time.monotonic() - began < 2.0
