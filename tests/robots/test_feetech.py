"""The real driver on a real serial device: what it reads and writes, and what it says when something is broken."""

from __future__ import annotations

import time

import numpy as np
import pytest

from opentau.errors import RobotError
from robot_bridge.robots.finding import new_port, scan_port, set_up_motor
from robot_bridge.robots.registers import checksum
from robot_bridge.robots.serial_port import SerialPort
from tests.robots.calibrated import PATIENT_S

IDS = range(1, 7)


def test_positions_are_read_and_targets_reached(emulated, bus_to):
    bus = bus_to(emulated())
    assert bus.sync_read("Present_Position", IDS) == dict.fromkeys(IDS, 2048)
    bus.sync_write("Goal_Position", {motor: 2000 + 10 * motor for motor in IDS})
    for motor in IDS:
        bus.write("Torque_Enable", motor, 1)
    deadline = time.monotonic() + 5
    wanted = {motor: 2000 + 10 * motor for motor in IDS}
    while bus.sync_read("Present_Position", IDS) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert bus.sync_read("Present_Position", IDS) == wanted


def test_negative_targets_and_offsets_travel_as_sign_and_magnitude(emulated, bus_to):
    emulator = emulated()
    bus = bus_to(emulator)
    assert [bus.read("Homing_Offset", motor) for motor in IDS] == [37, -120, 0, 512, -700, 15]
    bus.sync_write("Goal_Position", {2: -5})
    assert bus.read("Goal_Position", 2) == -5
    assert emulator.edit(lambda line: bytes(line.servos[1].memory[42:44])) == b"\x05\x80"


def test_a_noisy_line_is_survived_by_retries(emulated, bus_to):
    emulator = emulated(seed=3)
    bus = bus_to(emulator, reply_timeout_s=0.05, num_retries=20)
    emulator.bus.faults.noise = 0.05
    for _ in range(20):
        assert bus.sync_read("Present_Position", IDS) == dict.fromkeys(IDS, 2048)
    assert bus.num_failures > 0


def test_a_missing_motor_is_named_with_what_to_check(emulated, bus_to):
    emulator = emulated()
    bus = bus_to(emulator, reply_timeout_s=0.03)
    emulator.bus.faults.missing = {4}
    with pytest.raises(RobotError, match=r"no answer from motor 4; check the plugs"):
        bus.sync_read("Present_Position", IDS)
    assert bus.ping(4) is None
    assert bus.ping(5) == 777


def test_a_late_answer_of_a_packet_before_does_not_pass_for_the_model_number(emulated, bus_to, monkeypatch):
    bus = bus_to(emulated())
    confirmation = bytes([4, 2, 0])
    late, read_port = [b"\xff\xff" + confirmation + bytes([checksum(confirmation)])], bus.port.readPort
    monkeypatch.setattr(bus.port, "readPort", lambda length: late.pop() if late else read_port(length))
    assert bus.ping(4) == 777
    assert bus.num_failures == 1


def test_a_read_gives_up_in_time_for_the_control_step(emulated, bus_to):
    emulator = emulated()
    bus = bus_to(emulator, reply_timeout_s=0.02, num_retries=50)
    emulator.bus.faults.missing = set(IDS)
    started = time.monotonic()
    with pytest.raises(RobotError):
        bus.sync_read("Present_Position", IDS, deadline_s=1 / 30)
    assert time.monotonic() - started < 0.25


def test_a_pulled_cable_is_an_error_at_once_and_the_bus_can_be_opened_again(emulated, bus_to):
    emulator = emulated()
    bus = bus_to(emulator)
    emulator.unplug()
    with pytest.raises(RobotError, match=r"is gone .*plug the arm's USB cable in again"):
        bus.sync_read("Present_Position", IDS)
    with pytest.raises(RobotError, match=r"cannot be opened: .*plug the arm in"):
        bus.open()
    emulator.plug()
    bus.open()
    assert bus.read("Model_Number", 6) == 777


def test_a_write_to_a_motor_with_a_fault_says_which(emulated, bus_to):
    emulator = emulated()
    bus = bus_to(emulator)
    emulator.edit(lambda line: line.servos[0].store("Present_Temperature", 75))
    with pytest.raises(RobotError, match="motor 1 reports a fault: it is too hot"):
        bus.write("Torque_Enable", 1, 1)


def test_scanning_finds_motors_at_every_speed_and_collisions(emulated):
    emulator = emulated(ids=(1, 2, 2, 4, 5, 6), baud_rates=(1_000_000,) * 4 + (500_000, 115_200))
    found = {each.baud_rate: each for each in scan_port(emulator.link, reply_timeout_s=PATIENT_S)}
    assert sorted(found) == [115_200, 500_000, 1_000_000]
    assert found[115_200].models == {6: "STS3215"}
    assert (sorted(found[1_000_000].models), found[1_000_000].has_collisions) == ([1, 4], True)
    assert not found[500_000].has_collisions


def test_setup_gives_the_only_motor_its_id_and_speed_for_good(emulated):
    emulator = emulated(ids=(1, 12, 13, 14, 15, 16), baud_rates=(115_200,) + (1_000_000,) * 5)
    with pytest.raises(RobotError, match="ids are given one motor at a time"):
        set_up_motor(emulator.link, 3, reply_timeout_s=PATIENT_S)
    emulator.bus.faults.missing = {12, 13, 14, 15, 16}
    assert set_up_motor(emulator.link, 3, reply_timeout_s=PATIENT_S) == (1, 115_200)
    emulator.restart_motors()
    servo = emulator.bus.servos[0]
    assert (servo.id, servo.baud_rate, servo.value("Lock")) == (3, 1_000_000, 1)
    emulator.bus.faults.missing = {3, 12, 13, 14, 15, 16}
    with pytest.raises(RobotError, match="no motor answers"):
        set_up_motor(emulator.link, 3, reply_timeout_s=PATIENT_S)


def test_the_port_of_an_arm_is_the_one_that_goes_when_its_cable_is_pulled():
    states = iter([["a", "b"], ["a"], ["a"], ["a"]])
    assert new_port(lambda: next(states), ask=lambda text: "") == "b"
    with pytest.raises(RobotError, match="0 ports went away"):
        new_port(lambda: next(states), ask=lambda text: "")


def test_a_port_that_is_not_there_or_not_open_says_so(tmp_path):
    with pytest.raises(RobotError, match="cannot be opened"):
        SerialPort(str(tmp_path / "nothing")).open()
    with pytest.raises(RobotError, match="is not open; connect first"):
        SerialPort("nothing").readPort(1)


def test_reading_six_motors_takes_a_fraction_of_a_control_step(emulated, bus_to):
    bus = bus_to(emulated())
    times = []
    for _ in range(100):
        started = time.perf_counter()
        bus.sync_read("Present_Position", IDS)
        times.append(time.perf_counter() - started)
    assert np.median(times) < 0.5 / 30
