"""Calibration files and conversions, against numbers worked out by hand from LeRobot's formulas."""

from __future__ import annotations

import dataclasses
import json

import pytest

from opentau.errors import RobotError
from robot_bridge.robots.calibration import JOINTS, MotorCalibration, read_calibration, units_of, write_calibration

ENTRY = MotorCalibration(id=1, drive_mode=0, homing_offset=-37, range_min=1000, range_max=3001)
INVERTED = dataclasses.replace(ENTRY, drive_mode=1)


@pytest.mark.parametrize(
    ("entry", "joint", "use_degrees", "ticks", "value"),
    [
        (ENTRY, "elbow_flex", True, 2000, (2000 - 2000.5) * 360 / 4095),
        (ENTRY, "elbow_flex", True, 500, (500 - 2000.5) * 360 / 4095),
        (INVERTED, "elbow_flex", True, 2100, (2100 - 2000.5) * 360 / 4095),
        (ENTRY, "elbow_flex", False, 1000, -100.0),
        (ENTRY, "elbow_flex", False, 3001, 100.0),
        (ENTRY, "elbow_flex", False, 5000, 100.0),
        (INVERTED, "elbow_flex", False, 1000, 100.0),
        (ENTRY, "gripper", True, 1000, 0.0),
        (ENTRY, "gripper", False, 3001, 100.0),
        (INVERTED, "gripper", True, 1000, 100.0),
    ],
)
def test_ticks_become_units(entry, joint, use_degrees, ticks, value):
    assert entry.to_units(ticks, joint=joint, use_degrees=use_degrees) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("entry", "joint", "use_degrees", "value", "ticks"),
    [
        (ENTRY, "elbow_flex", True, 0.0, 2000),
        (ENTRY, "elbow_flex", True, -180.0, -47),  # towards zero, and below it: not kept within the range
        (ENTRY, "elbow_flex", False, 0.0, 2000),
        (ENTRY, "elbow_flex", False, -250.0, 1000),
        (INVERTED, "elbow_flex", False, -100.0, 3001),
        (ENTRY, "gripper", True, 33.3, 1666),
        (INVERTED, "gripper", False, 0.0, 3001),
    ],
)
def test_units_become_ticks_rounded_towards_zero(entry, joint, use_degrees, value, ticks):
    assert entry.to_ticks(value, joint=joint, use_degrees=use_degrees) == ticks


def test_ticks_survive_the_way_to_units_and_back_within_one():
    for use_degrees in (True, False):
        for joint in ("elbow_flex", "gripper"):
            for ticks in range(1000, 3002):
                value = ENTRY.to_units(ticks, joint=joint, use_degrees=use_degrees)
                assert abs(ENTRY.to_ticks(value, joint=joint, use_degrees=use_degrees) - ticks) <= 1


def test_files_are_written_as_lerobot_writes_them(tmp_path):
    path = tmp_path / "new" / "arm.json"
    calibration = {joint: dataclasses.replace(ENTRY, id=number) for number, joint in enumerate(JOINTS, start=1)}
    write_calibration(path, calibration)
    assert read_calibration(path) == calibration
    assert list(json.loads(path.read_text())["gripper"]) == ["id", "drive_mode", "homing_offset", "range_min", "range_max"]
    assert path.read_text().startswith('{\n    "shoulder_pan": {\n        "id": 1,')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gripper": None}, "is no set of whole numbers"),
        ({"gripper": {"id": 6}}, "is no set of whole numbers"),
        ({"hand": {}}, r"an SO-101's holds"),
    ],
)
def test_damaged_files_are_refused_with_the_fix(tmp_path, change, message):
    plain = {joint: dataclasses.asdict(dataclasses.replace(ENTRY, id=n)) for n, joint in enumerate(JOINTS)} | change
    path = tmp_path / "arm.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(RobotError, match=message):
        read_calibration(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"range_min": 3001}, "does not rise"),
        ({"homing_offset": 2048}, "offsets are"),
        ({"drive_mode": 2}, "drive_mode is 0 or 1"),
    ],
)
def test_impossible_calibrations_are_refused(change, message):
    with pytest.raises(RobotError, match=message):
        dataclasses.replace(ENTRY, **change)


def test_files_that_are_missing_or_share_an_id_are_refused(tmp_path):
    with pytest.raises(RobotError, match="cannot be read: No such file"):
        read_calibration(tmp_path / "arm.json")
    write_calibration(tmp_path / "arm.json", dict.fromkeys(JOINTS, ENTRY))
    with pytest.raises(RobotError, match="two motors one id"):
        read_calibration(tmp_path / "arm.json")


def test_units_are_named_by_mode():
    assert units_of(use_degrees=True) == ("deg",) * 5 + ("percent of range",)
    assert units_of(use_degrees=False) == ("percent of range",) * 6
