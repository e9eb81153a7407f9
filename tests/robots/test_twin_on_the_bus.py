"""The MuJoCo twin behind the emulated bus: the same task through the real driver as through its environment."""

from __future__ import annotations

import time

import numpy as np
import pytest

from envs.twin.environment import So101Env
from opentau.types import Interface, require_same_interface
from robot_bridge.robots.so101 import So101Follower
from tests.robots.calibrated import PATIENT_S

SIZE = 64


@pytest.fixture
def twin(programs, tmp_path):
    """An emulator program with the twin, and a connected follower on it."""
    plant = {"target": "envs.twin.plant:So101Plant"}
    calibration = tmp_path / "twin.json"
    arm = programs("twin", plant=plant, calibration="", write_calibration=str(calibration))
    camera = {
        "target": "robot_bridge.robots.cameras:EmulatedCamera",
        "args": {"control": arm.control, "camera": "front", "width": SIZE, "height": SIZE},
    }
    robot = So101Follower(
        port=arm.port,
        calibration=str(calibration),
        cameras={"front": camera},
        reply_timeout_s=PATIENT_S,
        max_state_age_s=2.0,
        max_image_age_s=5.0,
    )
    robot.connect()
    yield arm.client, robot
    robot.close()


def test_the_driver_offers_what_the_environment_does_and_sees_and_moves_the_same(twin):
    client, robot = twin
    env = So101Env(image_size=SIZE)
    require_same_interface(
        policy=Interface.from_dict(env.metadata["interface"]), station=robot.interface, station_id="the twin on its bus"
    )
    env.plant.reset(seed=11)
    client.ask("reset", seed=11)
    start = env.observe()["state"]
    for change in (np.zeros(6), np.array([15, 10, -10, -10, 20, 20])):
        target = (start + change).astype(np.float32)
        robot.command(target)
        for _ in range(60):
            env.advance(target)
        time.sleep(2.0)
        seen, expected = robot.read(), env.observe()
        assert np.abs(seen.state - expected["state"]).max() < 1.0
        assert np.abs(seen.images["front"].astype(int) - expected["images"]["front"]).mean() < 2.0
    assert np.abs(seen.state - start).max() > 8
    env.close()
