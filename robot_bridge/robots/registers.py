"""The STS3215 servo's memory and packets: the words that the driver and the emulated servo must agree on.

Source: Feetech's memory table of the STS/SMS series (protocol 0); the sign bits are those that LeRobot 0.6.1 uses.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from opentau.errors import RobotError

MODEL_NUMBER = 777
"""What an STS3215 answers in its register of that name."""
MODEL_NAMES = {777: "STS3215", 2825: "STS3250", 11272: "SM8512BL"}
TICKS_PER_TURN = 4096
MAX_TICK = TICKS_PER_TURN - 1
HALF_TURN = 2047
"""Where a calibrated joint's middle lies; LeRobot's half of 4095, rounded down."""
BROADCAST_ID, MAX_ID = 0xFE, 0xFC
EEPROM_END = 40
"""First address that a power cut resets."""

BAUD_RATES = (1_000_000, 500_000, 250_000, 128_000, 115_200, 57_600, 38_400, 19_200)
"""Bits per second by the value of the register `Baud_Rate`."""
DEFAULT_BAUD_RATE = 1_000_000


class Instruction(enum.IntEnum):
    """What a packet asks for."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class StatusBit(enum.IntFlag):
    """The error byte of a status packet."""

    VOLTAGE = 0x01
    ANGLE = 0x02
    OVERHEAT = 0x04
    OVER_CURRENT = 0x08
    OVERLOAD = 0x20


@dataclass(frozen=True, slots=True)
class Register:
    """One entry of the memory table."""

    address: int
    size: int
    """Bytes, little-endian."""
    sign_bit: int | None = None
    """Bit that says the value is negative; the bits below it are its magnitude. None for unsigned values."""


REGISTERS: dict[str, Register] = {
    "Firmware_Major_Version": Register(0, 1),
    "Firmware_Minor_Version": Register(1, 1),
    "Model_Number": Register(3, 2),
    "ID": Register(5, 1),
    "Baud_Rate": Register(6, 1),
    "Return_Delay_Time": Register(7, 1),
    "Response_Status_Level": Register(8, 1),
    "Min_Position_Limit": Register(9, 2),
    "Max_Position_Limit": Register(11, 2),
    "Max_Temperature_Limit": Register(13, 1),
    "Max_Voltage_Limit": Register(14, 1),
    "Min_Voltage_Limit": Register(15, 1),
    "Max_Torque_Limit": Register(16, 2),
    "Phase": Register(18, 1),
    "P_Coefficient": Register(21, 1),
    "D_Coefficient": Register(22, 1),
    "I_Coefficient": Register(23, 1),
    "Protection_Current": Register(28, 2),
    "Homing_Offset": Register(31, 2, sign_bit=11),
    "Operating_Mode": Register(33, 1),
    "Overload_Torque": Register(36, 1),
    "Torque_Enable": Register(40, 1),
    "Acceleration": Register(41, 1),
    "Goal_Position": Register(42, 2, sign_bit=15),
    "Goal_Velocity": Register(46, 2, sign_bit=15),
    "Torque_Limit": Register(48, 2),
    "Lock": Register(55, 1),
    "Present_Position": Register(56, 2, sign_bit=15),
    "Present_Velocity": Register(58, 2, sign_bit=15),
    "Present_Load": Register(60, 2, sign_bit=10),
    "Present_Voltage": Register(62, 1),
    "Present_Temperature": Register(63, 1),
    "Status": Register(65, 1),
    "Moving": Register(66, 1),
    "Present_Current": Register(69, 2, sign_bit=15),
    "Maximum_Acceleration": Register(85, 1),
}


def encode(name: str, value: int) -> bytes:
    """Return the bytes that hold a value; one that does not fit raises `RobotError`."""
    register = REGISTERS[name]
    bits = 8 * register.size if register.sign_bit is None else register.sign_bit
    if (value < 0 and register.sign_bit is None) or abs(value) >= 1 << bits:
        raise RobotError(f"{name} cannot hold {value}: its limit is {(1 << bits) - 1}; check the calibration and the target")
    raw = abs(value) | (1 << bits if value < 0 else 0)
    return raw.to_bytes(register.size, "little")


def decode(name: str, raw: bytes) -> int:
    """Return the value that bytes of a register hold."""
    value, sign_bit = int.from_bytes(raw, "little"), REGISTERS[name].sign_bit
    if sign_bit is None:
        return value
    magnitude = value & ((1 << sign_bit) - 1)
    return -magnitude if value >> sign_bit & 1 else magnitude


def checksum(body: bytes) -> int:
    """Return the last byte of a packet whose bytes between header and checksum are `body`."""
    return ~sum(body) & 0xFF
