"""Six calibrated motors on a bus: what the follower and the leader have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from opentau.errors import RobotError
from robot_bridge.robots.calibration import GRIPPER, JOINTS, Calibration, MotorCalibration
from robot_bridge.robots.feetech import FeetechBus
from robot_bridge.robots.registers import BROADCAST_ID, MODEL_NUMBER, REGISTERS, decode

POSITION_MODE, MULTI_TURN = 0, 0x10
"""`Operating_Mode` of a servo, and the bit of `Phase` that counts angles over turns."""
_FIRST, _LAST = REGISTERS["Present_Position"], REGISTERS["Status"]
_BLOCK_SIZE = _LAST.address + _LAST.size - _FIRST.address


@dataclass(frozen=True, slots=True, kw_only=True)
class MotorHealth:
    """What a motor says of itself besides its position."""

    voltage: float
    """Volts."""
    temperature: int
    """Degrees Celsius."""
    load: float
    """Share of the greatest torque, -1 to 1."""
    status: int
    """Fault bits, `registers.StatusBit`."""


class Arm:
    """Six calibrated motors on a bus: what follower and leader have in common."""

    def __init__(self, bus: FeetechBus, calibration: Calibration, *, use_degrees: bool) -> None:
        self.bus = bus
        self.calibration = calibration
        self.ids = [calibration[joint].id for joint in JOINTS]
        self._use_degrees = use_degrees

    def connect(self) -> None:
        """Open the bus and see that every motor is there; raises `RobotError` that names the one that is not."""
        self.bus.open()
        try:
            for joint, motor_id in zip(JOINTS, self.ids, strict=True):
                model = self.bus.ping(motor_id) or self.bus.ping(motor_id)  # a first answer may be lost
                if model != MODEL_NUMBER:
                    found = "nobody answers" if model is None else f"model {model} answers"
                    raise RobotError(
                        f"motor {motor_id} ({joint}) on {self.bus.port.path}: {found}, expected {MODEL_NUMBER} (STS3215); "
                        "check its cable and the power supply, and with `opentau robot find` its id"
                    )
        except RobotError:
            self.bus.close()
            raise

    def held_calibration(self) -> dict[str, MotorCalibration]:
        """Return what the motors' memory says of their offsets and ranges."""
        return {
            joint: MotorCalibration(
                id=motor_id,
                drive_mode=self.calibration[joint].drive_mode,
                homing_offset=self.bus.read("Homing_Offset", motor_id),
                range_min=self.bus.read("Min_Position_Limit", motor_id),
                range_max=self.bus.read("Max_Position_Limit", motor_id),
            )
            for joint, motor_id in zip(JOINTS, self.ids, strict=True)
        }

    def require_calibration(self) -> None:
        """Raise `RobotError` unless the motors hold this calibration: another arm's file would misplace every joint."""
        held = self.held_calibration()
        different = [joint for joint in JOINTS if held[joint] != self.calibration[joint]]
        if different:
            joint = different[0]
            raise RobotError(
                f"the motors on {self.bus.port.path} hold another calibration than the file for {', '.join(different)} "
                f"({joint}: {held[joint]} in the motor, {self.calibration[joint]} in the file); name the file of this arm, "
                "write it to the motors with `opentau robot calibrate --from FILE`, or calibrate again"
            )

    def write_calibration(self) -> None:
        """Write offsets and ranges into the motors; those that hold others lose their power."""
        for joint, motor_id in zip(JOINTS, self.ids, strict=True):
            entry = self.calibration[joint]
            self.write_lasting(
                motor_id,
                {
                    "Homing_Offset": entry.homing_offset,
                    "Min_Position_Limit": entry.range_min,
                    "Max_Position_Limit": entry.range_max,
                },
            )

    def write_lasting(self, motor_id: int, values: Mapping[str, int]) -> None:
        """Write registers that outlast the power, only those that differ: that memory wears, and needs the motor off."""
        different = {name: value for name, value in values.items() if self.bus.read(name, motor_id) != value}
        if different:
            self.bus.write("Torque_Enable", motor_id, 0)
            self.bus.write("Lock", motor_id, 0)
            for name, value in different.items():
                self.bus.write(name, motor_id, value)
        self.bus.write("Lock", motor_id, 1)

    def prepare(self, *, gains: tuple[int, int, int] | None, max_gripper_torque: float | None) -> None:
        """Set how the motors answer and pull, as LeRobot's driver does; those that hold other values lose their power."""
        for joint, motor_id in zip(JOINTS, self.ids, strict=True):
            wanted = {
                "Return_Delay_Time": 0,
                "Maximum_Acceleration": 254,
                "Operating_Mode": POSITION_MODE,
                "Phase": self.bus.read("Phase", motor_id) & ~MULTI_TURN,
            }
            if gains is not None:
                wanted |= dict(zip(("P_Coefficient", "I_Coefficient", "D_Coefficient"), gains, strict=True))
            if joint == GRIPPER and max_gripper_torque is not None:  # it may squeeze for long, and must not burn out
                torque = round(1000 * max_gripper_torque)
                wanted |= {"Max_Torque_Limit": torque, "Protection_Current": 250, "Overload_Torque": 25}
            self.write_lasting(motor_id, wanted)
            self.bus.write("Acceleration", motor_id, 254)

    def power(self, *, is_on: bool) -> None:
        """Switch every motor's power, and see that they obeyed."""
        for motor_id in self.ids:
            self.bus.write("Torque_Enable", motor_id, int(is_on))

    def power_off(self, motor_id: int) -> None:
        """Switch one motor off; the broadcast id reaches all of them, and none confirms."""
        if motor_id == BROADCAST_ID:
            self.bus.write_all("Torque_Enable", 0)
        else:
            self.bus.write("Torque_Enable", motor_id, 0)

    def to_units(self, ticks: Mapping[int, int]) -> np.ndarray:
        """Return float32 [6] in the units of the interface."""
        values = [
            self.calibration[joint].to_units(ticks[motor_id], joint=joint, use_degrees=self._use_degrees)
            for joint, motor_id in zip(JOINTS, self.ids, strict=True)
        ]
        return np.array(values, np.float32)

    def to_ticks(self, values: np.ndarray) -> dict[int, int]:
        """Return targets by motor id; values that are not six finite numbers raise `RobotError`."""
        if np.shape(values) != (len(JOINTS),) or not np.isfinite(values).all():
            raise RobotError(f"targets {np.asarray(values).tolist()} are not {len(JOINTS)} finite numbers; nothing was sent")
        return {
            motor_id: self.calibration[joint].to_ticks(float(value), joint=joint, use_degrees=self._use_degrees)
            for joint, motor_id, value in zip(JOINTS, self.ids, values, strict=True)
        }

    def positions(self, *, deadline_s: float | None = None) -> dict[int, int]:
        """Return ticks by motor id."""
        return self.bus.sync_read("Present_Position", self.ids, deadline_s=deadline_s)

    def positions_and_health(self, *, deadline_s: float | None = None) -> tuple[dict[int, int], dict[str, MotorHealth]]:
        """Return ticks by motor id, and the health of every joint, from one exchange that is twice as long."""
        blocks = self.bus.read_blocks(_FIRST.address, _BLOCK_SIZE, self.ids, deadline_s=deadline_s)
        health = {joint: _health(blocks[motor_id]) for joint, motor_id in zip(JOINTS, self.ids, strict=True)}
        return {motor_id: _value("Present_Position", block) for motor_id, block in blocks.items()}, health


def _value(name: str, block: bytes) -> int:
    start = REGISTERS[name].address - _FIRST.address
    return decode(name, block[start : start + REGISTERS[name].size])


def _health(block: bytes) -> MotorHealth:
    return MotorHealth(
        voltage=_value("Present_Voltage", block) / 10,
        temperature=_value("Present_Temperature", block),
        load=_value("Present_Load", block) / 1000,
        status=_value("Status", block),
    )
