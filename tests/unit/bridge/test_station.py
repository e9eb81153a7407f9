"""The station program: light, quick to start, and clear about a configuration that does not fit."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from opentau.errors import OptionError
from robot_bridge.config import StationConfig
from robot_bridge.station import EXIT_UNUSABLE
from robot_bridge.station_link import StationLink
from robot_bridge.wire.link import SEND_TIMEOUT_MS, Plane


def config(**changes: object) -> StationConfig:
    plain = {
        "session": "s",
        "station_id": "station-0-1",
        "control_endpoint": "tcp://127.0.0.1:9",
        "inference_endpoint": "tcp://127.0.0.1:9",
        "env": {"target": "tests.fakes:CountingEnv", "args": {}},
        "tasks": {"counting/0": {"task_id": 0}},
    }
    return StationConfig(**(plain | changes))


def test_a_program_that_takes_another_s_place_does_not_take_its_answers_for_its_own():
    with StationLink(config()) as first, StationLink(config()) as second:
        assert first.next_seq() != second.next_seq()


def test_signs_of_life_never_wait_for_a_server_that_takes_nothing():
    with StationLink(config(heartbeat_s=0.0, clock_interval_s=0.0)) as link:  # nobody listens at its endpoints
        began = time.monotonic()
        for _ in range(3 * Plane.CONTROL.value.queued_messages):
            link.keep_alive()
        assert time.monotonic() - began < SEND_TIMEOUT_MS / 1000


def test_the_yaml_holds_the_whole_configuration(tmp_path):
    path = tmp_path / "station.yaml"
    written = config(expert={"target": "tests.fakes:CountingExpert", "args": {}}, delay_ticks=3)
    written.save(path)
    assert StationConfig.load(path) == written


def test_an_unknown_key_of_the_yaml_is_named(tmp_path):
    path = tmp_path / "station.yaml"
    config().save(path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"execute_horizn": 3}))
    with pytest.raises(OptionError, match=r"execute_horizn.*execute_horizon"):
        StationConfig.load(path)


@pytest.mark.parametrize("text", [None, "session: [", "\udcff"])
def test_a_file_that_is_no_station_is_named(tmp_path, text):
    path = tmp_path / "station.yaml"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(OptionError, match=r"station\.yaml cannot be read"):
        StationConfig.load(path)


def test_a_station_never_loads_torch_and_its_program_is_there_in_under_a_second():
    code = "import robot_bridge.station, robot_bridge.supervisors, sys; assert 'torch' not in sys.modules, 'torch'"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"env": {"target": "tests.fakes:CountingEnvv", "args": {}}}, "CountingEnv"),
        ({"env": {"target": "tests.fakes:CountingEnv", "args": {"fail_at_start": "no usable OpenGL"}}}, "no usable OpenGL"),
    ],
)
def test_a_station_that_cannot_make_its_environment_says_why_in_one_line(tmp_path, monkeypatch, changes, text):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    path = tmp_path / "station.yaml"
    config(**changes).save(path)
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "robot_bridge.station", path], capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == EXIT_UNUSABLE
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
