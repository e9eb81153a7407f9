"""The emulated servos' packets and memory, byte by byte."""

from __future__ import annotations

import pytest

from opentau.errors import RobotError
from robot_bridge.robots.registers import BROADCAST_ID, REGISTERS, Instruction, StatusBit, checksum, decode, encode
from robot_bridge.robots.servo import Servo
from robot_bridge.robots.servo_bus import ServoBus


def packet(motor_id: int, instruction: int, *parameters: int) -> bytes:
    body = bytes([motor_id, len(parameters) + 2, instruction, *parameters])
    return b"\xff\xff" + body + bytes([checksum(body)])


def ask(bus: ServoBus, *packets: bytes) -> bytes:
    return bus.receive(b"".join(packets), baud_rate=1_000_000)


def test_a_ping_is_answered_as_feetechs_manual_shows():
    assert ask(ServoBus([Servo(1)]), bytes.fromhex("ffff010201fb")) == bytes.fromhex("ffff010200fc")


@pytest.mark.parametrize(("name", "limit"), [("Homing_Offset", 2047), ("Present_Position", 32767), ("Present_Load", 1023)])
def test_signed_registers_hold_sign_and_magnitude(name, limit):
    for value in (0, 1, -1, limit, -limit):
        assert decode(name, encode(name, value)) == value
    assert int.from_bytes(encode(name, -1), "little") == limit + 2
    with pytest.raises(RobotError, match=f"its limit is {limit}"):
        encode(name, -limit - 1)


def test_packets_are_found_among_noise_in_pieces_and_with_false_headers():
    bus, asked = ServoBus([Servo(3)]), packet(3, Instruction.PING)
    stream = b"\x07\xff" + asked
    answers = b"".join(ask(bus, stream[at : at + 1]) for at in range(len(stream)))
    assert answers[2] == 3
    assert bus.num_bad_packets == 0


def test_a_packet_with_a_wrong_checksum_is_dropped_and_the_next_one_heard():
    bus, asked = ServoBus([Servo(3)]), packet(3, Instruction.PING)
    assert ask(bus, asked[:-1] + bytes([asked[-1] ^ 1])) == b""
    assert (bus.num_bad_packets, len(ask(bus, asked))) == (1, 6)


def test_sync_read_answers_in_the_order_asked_and_skips_who_is_missing():
    bus = ServoBus([Servo(number) for number in (1, 2, 3)])
    bus.faults.missing = {2}
    address = REGISTERS["Present_Position"].address
    answers = ask(bus, packet(BROADCAST_ID, Instruction.SYNC_READ, address, 2, 3, 2, 1))
    assert (len(answers), answers[2], answers[10]) == (16, 3, 1)


def test_a_registered_write_waits_for_the_action():
    servo = Servo(4)
    bus = ServoBus([servo])
    address = REGISTERS["Goal_Position"].address
    assert len(ask(bus, packet(4, Instruction.REG_WRITE, address, 0x10, 0x02))) == 6
    assert servo.value("Goal_Position") == 0
    assert ask(bus, packet(BROADCAST_ID, Instruction.ACTION)) == b""
    assert servo.value("Goal_Position") == 0x210


def test_writes_are_silent_where_the_status_level_says_so_and_reads_still_answer():
    servo = Servo(4)
    servo.store("Response_Status_Level", 0)
    bus = ServoBus([servo])
    assert ask(bus, packet(4, Instruction.WRITE, REGISTERS["Torque_Enable"].address, 1)) == b""
    assert servo.is_powered
    assert len(ask(bus, packet(4, Instruction.READ, REGISTERS["Torque_Enable"].address, 1))) == 7


def test_only_what_was_written_unlocked_survives_a_power_cut():
    servo = Servo(4)
    p_gain = REGISTERS["P_Coefficient"].address
    servo.write(p_gain, b"\x10")
    assert servo.value("P_Coefficient") == 16
    servo.restart()
    assert servo.value("P_Coefficient") == 32
    servo.write(REGISTERS["Lock"].address, b"\x00")
    servo.write(p_gain, b"\x10")
    servo.restart()
    assert (servo.value("P_Coefficient"), servo.value("Lock")) == (16, 1)


def test_read_only_registers_cannot_be_written():
    servo = Servo(4)
    servo.write(REGISTERS["Present_Voltage"].address, b"\x01")
    assert servo.value("Present_Voltage") == 50


def test_the_offset_is_taken_off_the_reading_and_the_turn_wraps_unless_turns_are_counted():
    servo = Servo(1)
    servo.place(0.0, speed_rad_s=0.0, load=0.0)
    servo.keep("Homing_Offset", -2047)
    assert servo.value("Present_Position") == 2048 + 2047
    servo.keep("Homing_Offset", 2047)
    servo.place(-0.01, speed_rad_s=0.0, load=0.0)
    assert servo.value("Present_Position") == 4096 + (2048 - 7 - 2047)
    servo.keep("Phase", 12 | 0x10)
    assert servo.value("Present_Position") == -6


def test_targets_are_kept_within_the_position_limits():
    servo = Servo(1)
    servo.keep("Min_Position_Limit", 1000)
    servo.keep("Max_Position_Limit", 3000)
    for goal, reached in ((200, 1000), (2500, 2500), (4000, 3000)):
        servo.store("Goal_Position", goal)
        servo.place(servo.goal_rad(), speed_rad_s=0.0, load=0.0)
        assert servo.value("Present_Position") == reached


def test_answers_carry_the_fault_of_a_weak_supply():
    servo = Servo(1)
    servo.store("Present_Voltage", 38)
    assert ask(ServoBus([servo]), packet(1, Instruction.PING))[4] == StatusBit.VOLTAGE
