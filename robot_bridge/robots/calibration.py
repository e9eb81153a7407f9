"""Calibration of an arm: LeRobot's files, read and written, and their conversion between encoder ticks and units."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opentau.errors import RobotError
from robot_bridge.robots.registers import MAX_ID, MAX_TICK

DEGREES, PERCENT = "deg", "percent of range"
"""Units of a joint in an interface."""
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""The SO-101's motors in the order of their ids, from 1."""
GRIPPER = "gripper"
FULL_TURN_JOINT = "wrist_roll"
"""The joint without stops: its range is the whole turn."""
_CALIBRATE = "calibrate the arm again: opentau robot calibrate"
_MAX_OFFSET = 2047


@dataclass(frozen=True, slots=True, kw_only=True)
class MotorCalibration:
    """What is known of one motor; the fields are those of LeRobot's files."""

    id: int
    drive_mode: int
    """1 where the units run against the ticks. LeRobot heeds it for percentages only, and so do we."""
    homing_offset: int
    """Ticks that the motor takes off its encoder's reading."""
    range_min: int
    """Ticks of the joint's lower stop, after the offset."""
    range_max: int

    def __post_init__(self) -> None:
        if not (0 <= self.id <= MAX_ID and self.drive_mode in (0, 1) and abs(self.homing_offset) <= _MAX_OFFSET):
            raise RobotError(
                f"calibration {dataclasses.asdict(self)}: ids are 0 to {MAX_ID}, drive_mode is 0 or 1, offsets are "
                f"-{_MAX_OFFSET} to {_MAX_OFFSET}; {_CALIBRATE}"
            )
        if not 0 <= self.range_min < self.range_max <= MAX_TICK:
            raise RobotError(
                f"motor {self.id}: range {self.range_min} to {self.range_max} does not rise within 0 to {MAX_TICK}; "
                f"{_CALIBRATE}"
            )

    def to_units(self, ticks: int, *, joint: str, use_degrees: bool) -> float:
        """Return degrees from the middle of the range, or percent: -100 to 100, the gripper's 0 to 100."""
        if use_degrees and joint != GRIPPER:
            return (ticks - (self.range_min + self.range_max) / 2) * 360 / MAX_TICK
        share = (min(self.range_max, max(self.range_min, ticks)) - self.range_min) / (self.range_max - self.range_min)
        if joint == GRIPPER:
            return 100 - share * 100 if self.drive_mode else share * 100
        return -(share * 200 - 100) if self.drive_mode else share * 200 - 100

    def to_ticks(self, value: float, *, joint: str, use_degrees: bool) -> int:
        """Return the ticks of a target, rounded towards zero as LeRobot does; percentages are kept within the range."""
        if use_degrees and joint != GRIPPER:
            return int(value * MAX_TICK / 360 + (self.range_min + self.range_max) / 2)
        if joint == GRIPPER:
            share = min(100.0, max(0.0, 100 - value if self.drive_mode else value)) / 100
        else:
            share = (min(100.0, max(-100.0, -value if self.drive_mode else value)) + 100) / 200
        return int(share * (self.range_max - self.range_min) + self.range_min)


Calibration = Mapping[str, MotorCalibration]
"""Joint name to its motor's calibration."""


def read_calibration(path: Path | str) -> dict[str, MotorCalibration]:
    """Read LeRobot's or our file of an arm; raises `RobotError` with what is wrong in it."""
    path = Path(path).expanduser()
    try:
        plain = json.loads(path.read_text())
    except OSError as error:
        raise RobotError(f"calibration {path} cannot be read: {error.strerror}; name the file, or {_CALIBRATE}") from error
    except ValueError as error:
        raise RobotError(f"calibration {path} is no JSON: {error}; {_CALIBRATE}") from error
    return calibration_from(plain, where=f"calibration {path}")


def calibration_from(plain: object, *, where: str) -> dict[str, MotorCalibration]:
    """Build a calibration from plain data."""
    if not isinstance(plain, dict) or set(plain) != set(JOINTS):
        found = sorted(plain) if isinstance(plain, dict) else type(plain).__name__
        raise RobotError(f"{where} holds {found}, an SO-101's holds {list(JOINTS)}; name the file of this arm")
    names = {field.name for field in dataclasses.fields(MotorCalibration)}
    for joint, entry in plain.items():
        if not isinstance(entry, dict) or set(entry) != names or not all(type(value) is int for value in entry.values()):
            raise RobotError(f"{where}, {joint}: {entry!r} is no set of whole numbers {sorted(names)}; {_CALIBRATE}")
    ids = [entry["id"] for entry in plain.values()]
    if len(set(ids)) != len(ids):
        raise RobotError(f"{where} gives two motors one id ({ids}); {_CALIBRATE}")
    return {joint: MotorCalibration(**plain[joint]) for joint in JOINTS}


def write_calibration(path: Path | str, calibration: Calibration) -> None:
    """Write a calibration as LeRobot does, so that both read it."""
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({joint: dataclasses.asdict(entry) for joint, entry in calibration.items()}, indent=4))
    os.replace(partial, path)


def units_of(*, use_degrees: bool) -> tuple[str, ...]:
    """Return the units of the joints in order."""
    return tuple(DEGREES if use_degrees and joint != GRIPPER else PERCENT for joint in JOINTS)
