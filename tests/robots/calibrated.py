"""The calibration of the emulated arms of these tests."""

from __future__ import annotations

from robot_bridge.robots.calibration import JOINTS, MotorCalibration

OFFSETS = (37, -120, 0, 512, -700, 15)
CALIBRATION = {
    joint: MotorCalibration(id=number, drive_mode=0, homing_offset=offset, range_min=700, range_max=3301 + number)
    for number, (joint, offset) in enumerate(zip(JOINTS, OFFSETS, strict=True), start=1)
}
PATIENT_S = 0.3
"""How long to wait for an emulated answer on a busy machine."""
