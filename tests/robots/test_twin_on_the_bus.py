"""The MuJoCo twin behind the emulated bus: the same task through the real driver as through its environment."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pytest

from envs.twin.environment import So101Env
from opentau.cli.robot_twin import CORRECTOR
from opentau.protocols import ScriptedTeleop
from opentau.types import Actor, EpisodePlan, Interface, require_same_interface
from robot_bridge.robots.so101 import So101Follower
from robot_bridge.teleops.expert import ExpertTeleop
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
    yield SimpleNamespace(client=arm.client, control=arm.control, robot=robot)
    robot.close()


def test_the_driver_offers_what_the_environment_does_and_sees_and_moves_the_same(twin):
    client, robot = twin.client, twin.robot
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


def test_the_tasks_expert_takes_the_arm_over_by_the_supervisors_rule_and_brings_the_cube_home(twin):
    always = {"args": {"random_takeover_probability": 1.0, "keep_probability": 1.0, "no_progress_ticks": None}}
    supervisor = CORRECTOR["supervisor"] | always
    teleop = ExpertTeleop(interface=twin.robot.interface, control=twin.control, **CORRECTOR | {"supervisor": supervisor})
    assert isinstance(teleop, ScriptedTeleop), "the station tells it which episode begins"
    plan = EpisodePlan(index=0, episode_id="e/0", task_id="t/0", seed=3, actor=Actor.POLICY, policy_id="p", is_supervised=True)
    twin.client.ask("reset", seed=3)
    teleop.connect()
    try:
        teleop.start(dataclasses.replace(plan, is_supervised=False))
        assert not any(teleop.wants_control() for _ in range(240))
        teleop.start(plan)
        held, deadline = [], time.monotonic() + 60.0
        while not twin.client.ask("is_success"):
            assert time.monotonic() < deadline, "the expert does not bring the cube to the disc"
            held.append(teleop.wants_control())
            if held[-1]:
                twin.robot.command(teleop.act(twin.robot.read().state))
                time.sleep(1 / 30)
        begun = held.index(True)
        assert 24 <= begun <= 144, "by chance, in that part of an episode"
        assert all(held[begun:])
    finally:
        teleop.close()
