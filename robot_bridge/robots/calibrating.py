"""Calibration by hand, as LeRobot does it: the middle pose gives the offsets, moving every joint to its stops the ranges."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentau.errors import RobotError
from robot_bridge.robots.arm import MULTI_TURN, POSITION_MODE, Arm
from robot_bridge.robots.calibration import FULL_TURN_JOINT, JOINTS, MotorCalibration
from robot_bridge.robots.feetech import FeetechBus
from robot_bridge.robots.registers import HALF_TURN, MAX_TICK

_MIN_RANGE, _MAX_RANGE = 200, 3900
_READ_EVERY_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where a joint is, and how far it has been moved, in ticks."""

    low: int
    now: int
    high: int


def calibrate(
    bus: FeetechBus,
    *,
    ask: Callable[[str], str],
    is_done: Callable[[], bool],
    on_span: Callable[[Mapping[str, Span]], None] = lambda spans: None,
) -> dict[str, MotorCalibration]:
    """Calibrate the arm on an open bus and leave the result in its motors; they are powered off.

    `ask` puts an instruction and waits for Enter; `is_done` tells when the joints have been moved, while `on_span` shows
    how far. A joint that was not moved, or that runs over its encoder's end, raises `RobotError`.
    """
    ids = {joint: number for number, joint in enumerate(JOINTS, start=1)}
    for motor_id in ids.values():
        _free(bus, motor_id)
    ask("Hold the arm in the middle of every joint's range, then press Enter. ")
    offsets = {joint: _center(bus, motor_id) for joint, motor_id in ids.items()}
    ask(f"Press Enter, then move every joint but {FULL_TURN_JOINT} from stop to stop, and press Enter again. ")
    spans = _record_spans(bus, ids, is_done=is_done, on_span=on_span)
    calibration = {
        joint: MotorCalibration(
            id=motor_id,
            drive_mode=0,
            homing_offset=offsets[joint],
            range_min=0 if joint == FULL_TURN_JOINT else spans[joint].low,
            range_max=MAX_TICK if joint == FULL_TURN_JOINT else spans[joint].high,
        )
        for joint, motor_id in ids.items()
        if joint == FULL_TURN_JOINT or _require_moved(joint, spans[joint])
    }
    Arm(bus, calibration, use_degrees=True).write_calibration()
    return calibration


def _free(bus: FeetechBus, motor_id: int) -> None:
    """Power a motor off and take back what a former calibration left, so that its bare encoder shows."""
    bus.write("Torque_Enable", motor_id, 0)
    bus.write("Lock", motor_id, 0)
    bus.write("Operating_Mode", motor_id, POSITION_MODE)
    bus.write("Phase", motor_id, bus.read("Phase", motor_id) & ~MULTI_TURN)
    bus.write("Homing_Offset", motor_id, 0)
    bus.write("Min_Position_Limit", motor_id, 0)
    bus.write("Max_Position_Limit", motor_id, MAX_TICK)


def _center(bus: FeetechBus, motor_id: int) -> int:
    """Make the present position the middle of the turn; returns the offset."""
    offset = bus.read("Present_Position", motor_id) - HALF_TURN
    bus.write("Homing_Offset", motor_id, min(HALF_TURN, offset))
    return min(HALF_TURN, offset)


def _record_spans(
    bus: FeetechBus, ids: Mapping[str, int], *, is_done: Callable[[], bool], on_span: Callable[[Mapping[str, Span]], None]
) -> dict[str, Span]:
    positions = bus.sync_read("Present_Position", ids.values())
    spans = {joint: Span(low=positions[i], now=positions[i], high=positions[i]) for joint, i in ids.items()}
    while True:
        is_last = is_done()
        positions = bus.sync_read("Present_Position", ids.values())
        for joint, motor_id in ids.items():
            now = positions[motor_id]
            spans[joint] = Span(low=min(spans[joint].low, now), now=now, high=max(spans[joint].high, now))
        on_span(spans)
        if is_last:
            return spans
        time.sleep(_READ_EVERY_S)


def _require_moved(joint: str, span: Span) -> bool:
    moved = span.high - span.low
    if moved < _MIN_RANGE:
        raise RobotError(f"{joint} moved by {moved} ticks, at least {_MIN_RANGE} are needed; calibrate again, stop to stop")
    if moved > _MAX_RANGE:
        raise RobotError(
            f"{joint} moved by {moved} ticks, at most {_MAX_RANGE} make sense: its encoder's end lies within its range. "
            "Calibrate again and hold it in the middle of its range at the first step"
        )
    return True
