"""The follower as a Robot and the leader as a Teleop, on emulated arms over real serial devices."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from opentau.errors import OptionError, RobotError
from opentau.protocols import Robot, Teleop
from robot_bridge.robots.calibration import GRIPPER, JOINTS, write_calibration
from robot_bridge.robots.emulator import BusEmulator
from robot_bridge.robots.plant import FirstOrderArm
from robot_bridge.robots.so101 import So101Follower, So101Leader
from tests.robots.calibrated import CALIBRATION, PATIENT_S

START = (0.1, -0.2, 0.3, 0.0, 0.5, -0.4)


@pytest.fixture
def follower(emulated, calibration_file):
    """Return a function that makes an emulator and a follower on it, closed afterwards."""
    made = []

    def make(*, plant=None, **options):
        emulator = emulated(plant=plant or FirstOrderArm(start=START))
        arguments = {"reply_timeout_s": PATIENT_S, "max_state_age_s": 1.0, **options}
        robot = So101Follower(port=emulator.link, calibration=str(calibration_file), **arguments)
        made.append(robot)
        return emulator, robot

    yield make
    for robot in made:
        robot.close()


def until(holds, *, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_it_offers_are_six_joints_by_name_and_unit(follower):
    _, robot = follower(use_degrees=True)
    offered: Robot = robot
    assert offered.interface.state_names == offered.interface.action_names == tuple(f"{joint}.pos" for joint in JOINTS)
    assert offered.interface.action_units == ("deg",) * 5 + ("%",)
    assert (offered.interface.action_space, offered.interface.control_hz) == ("absolute_joint", 30.0)


def test_connecting_powers_the_arm_up_without_moving_it(follower):
    emulator, robot = follower()
    before = emulator.on_plant(lambda plant: plant.positions())
    robot.connect()
    time.sleep(0.3)
    assert emulator.edit(lambda line: [servo.is_powered for servo in line.servos]) == [True] * 6
    assert np.abs(emulator.on_plant(lambda plant: plant.positions()) - before).max() < 0.002


class Watched(FirstOrderArm):
    """An arm that remembers when any of its motors was off."""

    def __init__(self):
        super().__init__(start=START)
        self.num_steps_off = 0

    def set_torque_enabled(self, enabled):
        super().set_torque_enabled(enabled)
        self.num_steps_off += not all(enabled)


def test_connecting_again_to_an_arm_that_holds_its_pose_never_lets_it_fall(follower):
    plant = Watched()
    _, robot = follower(plant=plant)
    robot.connect()
    robot.close()
    time.sleep(0.05)
    plant.num_steps_off = 0
    robot.connect()
    time.sleep(0.05)
    assert plant.num_steps_off == 0


@pytest.mark.parametrize("use_degrees", [True, False])
def test_commands_are_reached_and_read_back_in_the_same_units(follower, use_degrees):
    _, robot = follower(use_degrees=use_degrees)
    robot.connect()
    target = np.array([5.0, -10.0, 15.0, 0.0, 20.0, 60.0], np.float32)
    robot.command(target)
    until(lambda: np.abs(robot.read().state - target).max() < 0.15)
    reading = robot.read()
    assert (reading.state.dtype, reading.state.shape) == (np.float32, (6,))
    assert 0 <= reading.state_age_s < 0.5


def test_hold_stops_a_motion_where_it_is(follower):
    _, robot = follower()
    robot.connect()
    robot.command(np.array([80, 0, 0, 0, 0, 50], np.float32))
    time.sleep(0.1)
    robot.hold()
    time.sleep(0.4)
    first = robot.read().state[0]
    time.sleep(0.2)
    assert robot.read().state[0] == first < 79


def test_relax_switches_every_motor_off_even_with_one_that_is_silent(follower):
    emulator, robot = follower(reply_timeout_s=0.05)
    robot.connect()
    emulator.bus.faults.missing = {3}
    with pytest.raises(RobotError, match="pull its power plug"):
        robot.relax()
    emulator.bus.faults.missing = set()
    powered = emulator.edit(lambda line: [servo.is_powered for servo in line.servos])
    assert powered == [False, False, True, False, False, False]
    robot.relax()
    assert not any(emulator.edit(lambda line: [servo.is_powered for servo in line.servos]))


def test_closing_keeps_the_pose_under_power(follower):
    emulator, robot = follower()
    robot.connect()
    robot.close()
    assert all(emulator.edit(lambda line: [servo.is_powered for servo in line.servos]))


def test_targets_that_are_no_numbers_are_refused_before_anything_is_sent(follower):
    emulator, robot = follower()
    robot.connect()
    before = emulator.edit(lambda line: [servo.value("Goal_Position") for servo in line.servos])
    for bad in (np.full(6, np.nan, np.float32), np.zeros(5, np.float32)):
        with pytest.raises(RobotError, match="nothing was sent"):
            robot.command(bad)
    assert emulator.edit(lambda line: [servo.value("Goal_Position") for servo in line.servos]) == before


def test_a_file_of_another_arm_is_refused_with_power_off(emulated, tmp_path):
    emulator = emulated()
    path = tmp_path / "other.json"
    other = {**CALIBRATION, "elbow_flex": dataclasses.replace(CALIBRATION["elbow_flex"], homing_offset=400)}
    write_calibration(path, other)
    robot = So101Follower(port=emulator.link, calibration=str(path), reply_timeout_s=PATIENT_S)
    with pytest.raises(RobotError, match="hold another calibration than the file for elbow_flex"):
        robot.connect()
    assert not any(emulator.edit(lambda line: [servo.is_powered for servo in line.servos]))


def test_a_missing_motor_is_named_by_its_joint_when_connecting(follower):
    emulator, robot = follower(reply_timeout_s=0.05)
    emulator.bus.faults.missing = {5}
    with pytest.raises(RobotError, match=r"motor 5 \(wrist_roll\).*nobody answers"):
        robot.connect()


def test_a_short_silence_is_bridged_with_an_honest_age_and_a_long_one_is_an_error(follower):
    emulator, robot = follower(reply_timeout_s=0.02, max_state_age_s=0.3)
    robot.connect()
    until(lambda: robot.read().state_age_s < 0.1)
    emulator.bus.faults.missing = {2}
    assert robot.read().state_age_s > 0.02
    with pytest.raises(RobotError, match="motor 2"):
        for _ in range(100):
            robot.read()
            time.sleep(0.01)
    emulator.bus.faults.missing = set()
    until(lambda: robot.read().state_age_s < 0.1)


def test_a_pulled_cable_is_an_error_at_once(follower):
    emulator, robot = follower()
    robot.connect()
    emulator.unplug()
    with pytest.raises(RobotError, match="is gone"):
        robot.read()
    with pytest.raises(RobotError, match="pull its power plug"):
        robot.relax()


def test_a_weak_supply_is_noticed_within_a_second_or_two(follower):
    emulator, robot = follower()
    robot.connect()
    assert robot.health["shoulder_pan"].voltage == 5.0
    emulator.edit(lambda line: line.servos[2].store("Present_Voltage", 35))
    with pytest.raises(RobotError, match=r"motor elbow_flex at 3\.5 V.*check the power adapter"):
        for _ in range(200):
            robot.read()
            time.sleep(0.02)


def test_the_gripper_gets_half_its_torque_and_the_gains_are_written(follower):
    emulator, robot = follower(gains=(20, 1, 30))
    robot.connect()
    gripper = emulator.bus.servos[JOINTS.index(GRIPPER)]
    assert [gripper.value(name) for name in ("Max_Torque_Limit", "P_Coefficient", "I_Coefficient")] == [500, 20, 1]
    assert emulator.bus.servos[0].value("Max_Torque_Limit") == 1000


def leader_of(follower: So101Follower, emulator: BusEmulator, calibration_file: Path, **options: float) -> So101Leader:
    path = str(calibration_file)
    return So101Leader(interface=follower.interface, port=emulator.link, calibration=path, reply_timeout_s=PATIENT_S, **options)


def test_squeezing_takes_control_moving_keeps_it_and_lying_still_gives_it_back(emulated, follower, calibration_file):
    emulator = emulated(plant=FirstOrderArm(start=START), name="leader")
    offered: Teleop = leader_of(follower()[1], emulator, calibration_file, release_s=0.3, still_percent=0.5)
    offered.connect()
    try:
        closed = (CALIBRATION[GRIPPER].range_min - 2048) * 2 * np.pi / 4096
        pose = np.array(START)

        def put(change):
            emulator.on_plant(lambda plant: plant.move_by_hand(pose + change))
            time.sleep(0.05)

        assert not offered.wants_control()
        put([0.2, 0, 0, 0, 0, 0])
        assert not offered.wants_control()
        put([0.2, 0, 0, 0, 0, closed - START[5]])
        assert offered.wants_control()
        for turn in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            put([turn, 0, 0, 0, 0, 0])
            assert offered.wants_control()
        until(lambda: not offered.wants_control())
        expected = (
            np.degrees(START[0] + 0.9)
            - (CALIBRATION[JOINTS[0]].range_min + CALIBRATION[JOINTS[0]].range_max - 4096) * 45 / 1024
        )
        assert abs(offered.act(np.zeros(6, np.float32))[0] - expected) < 0.2
        assert np.array_equal(offered.pose(), offered.act(np.zeros(6, np.float32)))
        assert offered.verdict() is None
    finally:
        offered.close()


@pytest.mark.parametrize("use_degrees", [True, False])
def test_the_leader_speaks_in_the_units_of_the_arm_that_it_moves(emulated, follower, calibration_file, use_degrees):
    _, arm = follower(use_degrees=use_degrees)
    leader = leader_of(arm, emulated(plant=FirstOrderArm(start=START), name="leader"), calibration_file)
    arm.connect()
    leader.connect()
    try:
        np.testing.assert_allclose(leader.pose(), arm.read().state, atol=0.2)
    finally:
        leader.close()
    other = dataclasses.replace(arm.interface, action_units=("rad",) * 6)
    with pytest.raises(OptionError, match="use another device"):
        So101Leader(interface=other, port="x", calibration=str(calibration_file))


def test_without_the_drivers_packages_the_error_names_the_extra():
    code = (
        "import sys\nsys.modules['serial'] = sys.modules['scservo_sdk'] = None\n"
        "from robot_bridge.robots.feetech import FeetechBus\nFeetechBus('x').open()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "install the extra 'robot'" in done.stderr
