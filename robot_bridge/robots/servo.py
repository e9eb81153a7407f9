"""An emulated STS3215: its memory, what writing to it does, and where its encoder stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robot_bridge.robots.registers import (
    BAUD_RATES,
    EEPROM_END,
    HALF_TURN,
    MAX_TICK,
    MODEL_NUMBER,
    REGISTERS,
    TICKS_PER_TURN,
    StatusBit,
    decode,
    encode,
)

_MEMORY_SIZE = 96
_FACTORY = {
    "Firmware_Major_Version": 3,
    "Firmware_Minor_Version": 10,
    "Model_Number": MODEL_NUMBER,
    "Return_Delay_Time": 250,
    "Response_Status_Level": 1,
    "Max_Position_Limit": MAX_TICK,
    "Max_Temperature_Limit": 70,
    "Max_Voltage_Limit": 80,
    "Min_Voltage_Limit": 40,
    "Max_Torque_Limit": 1000,
    "Phase": 12,
    "P_Coefficient": 32,
    "D_Coefficient": 32,
    "Protection_Current": 500,
    "Overload_Torque": 80,
    "Torque_Limit": 1000,
    "Lock": 1,
    "Present_Voltage": 50,
    "Present_Temperature": 32,
    "Maximum_Acceleration": 254,
}
_READ_ONLY = [REGISTERS[name] for name in REGISTERS if name.startswith(("Firmware", "Model", "Present", "Status", "Moving"))]
_MULTI_TURN = 0x10
"""Bit of `Phase`: angles are counted over turns and may be negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounting:
    """How a servo sits on its joint."""

    zero_tick: int = 2048
    """What the bare encoder reads where the joint's angle is zero."""
    direction: int = 1
    """1, or -1 where the encoder counts down while the angle grows."""


class Servo:
    """One motor on the bus; volatile memory starts anew with the power, the rest only keeps what was written unlocked."""

    def __init__(self, motor_id: int, *, mounting: Mounting | None = None, baud_rate: int = BAUD_RATES[0]) -> None:
        self.mounting = mounting or Mounting()
        self.pending: tuple[int, bytes] | None = None
        """What a REG_WRITE left for the next ACTION."""
        self._encoder = self.mounting.zero_tick
        self.memory = bytearray(_MEMORY_SIZE)
        for name, value in {**_FACTORY, "ID": motor_id, "Baud_Rate": BAUD_RATES.index(baud_rate)}.items():
            self.store(name, value)
        self._kept = bytes(self.memory[:EEPROM_END])
        self._fresh = bytes(self.memory[EEPROM_END:])

    @property
    def id(self) -> int:
        return self.value("ID")

    @property
    def baud_rate(self) -> int:
        return BAUD_RATES[self.value("Baud_Rate")]

    @property
    def is_powered(self) -> bool:
        return self.value("Torque_Enable") == 1

    def value(self, name: str) -> int:
        """Return what a register holds."""
        register = REGISTERS[name]
        return decode(name, bytes(self.memory[register.address : register.address + register.size]))

    def store(self, name: str, value: int) -> None:
        """Put a value into a register, as the motor itself does."""
        register = REGISTERS[name]
        self.memory[register.address : register.address + register.size] = encode(name, value)

    def keep(self, name: str, value: int) -> None:
        """Put a value where the power does not reach, as a former setup would have."""
        self.store(name, value)
        self._kept = bytes(self.memory[:EEPROM_END])
        self._update_position()

    def read(self, address: int, size: int) -> bytes:
        """Return memory; zeros beyond its end."""
        return bytes(self.memory[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Write what a packet says: read-only bytes stay, EEPROM lasts only while the lock is open."""
        protected = {at for register in _READ_ONLY for at in range(register.address, register.address + register.size)}
        for at, byte in enumerate(data, start=address):
            if at < _MEMORY_SIZE and at not in protected:
                self.memory[at] = byte
        if address < EEPROM_END and self.value("Lock") == 0:
            self._kept = bytes(self.memory[:EEPROM_END])
        self._update_position()

    def restart(self) -> None:
        """Lose power and get it back."""
        voltage, temperature = self.value("Present_Voltage"), self.value("Present_Temperature")
        self.memory[:] = self._kept + self._fresh
        self.pending = None
        self.store("Present_Voltage", voltage)
        self.store("Present_Temperature", temperature)
        self._update_position()

    def status(self) -> int:
        """Return the error byte of its answers."""
        voltage, error = self.value("Present_Voltage"), 0
        if not self.value("Min_Voltage_Limit") <= voltage <= self.value("Max_Voltage_Limit"):
            error |= StatusBit.VOLTAGE
        if self.value("Present_Temperature") > self.value("Max_Temperature_Limit"):
            error |= StatusBit.OVERHEAT
        return int(error)

    def goal_rad(self) -> float:
        """Return the joint angle that the target asks for, within the position limits."""
        low, high = self.value("Min_Position_Limit"), self.value("Max_Position_Limit")
        goal = self.value("Goal_Position")
        ticks = goal if low == high == 0 else min(high, max(low, goal))
        # The encoder's reading nearest to where the joint is: a target never asks for another turn.
        actual = ticks + self.value("Homing_Offset")
        wanted = self._encoder + (actual - self._encoder + HALF_TURN) % TICKS_PER_TURN - HALF_TURN
        return (wanted - self.mounting.zero_tick) * self.mounting.direction * 2 * math.pi / TICKS_PER_TURN

    def place(self, angle_rad: float, *, speed_rad_s: float, load: float) -> None:
        """Take over where the plant is: angle, speed, and load as a share of the greatest torque."""
        per_rad = self.mounting.direction * TICKS_PER_TURN / (2 * math.pi)
        self._encoder = self.mounting.zero_tick + round(angle_rad * per_rad)
        self.store("Present_Velocity", int(max(-32767, min(32767, speed_rad_s * per_rad))))
        self.store("Present_Load", int(max(-1000, min(1000, load * 1000 * self.mounting.direction))))
        self.store("Moving", int(abs(speed_rad_s) > 0.02))
        self.store("Status", self.status())
        self._update_position()

    def _update_position(self) -> None:
        ticks = self._encoder - self.value("Homing_Offset")
        self.store("Present_Position", ticks if self.value("Phase") & _MULTI_TURN else ticks % TICKS_PER_TURN)
