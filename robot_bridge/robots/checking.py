"""What `opentau robot check` looks at on an SO-101; every finding that is not good carries its fix in a sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from opentau.errors import RobotError
from robot_bridge.robots.arm import Arm
from robot_bridge.robots.calibration import GRIPPER, JOINTS
from robot_bridge.robots.cameras import Camera
from robot_bridge.robots.feetech import UNHURRIED_S, describe_status
from robot_bridge.robots.finding import scan_port
from robot_bridge.robots.registers import DEFAULT_BAUD_RATE, MODEL_NAMES, MODEL_NUMBER

MAX_TEMPERATURE = 60
"""Degrees Celsius; the motors switch themselves off at 70."""
MAX_VOLTAGE_DROP = 0.8
"""Volts between the first and the last motor of the chain."""
_NUDGE_TICKS, _NUDGE_S = 40, 0.5
_MIN_RATE_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a check."""

    name: str
    is_good: bool
    text: str
    fix: str = ""
    """What to do when it is not good."""


def check_bus(path: str, *, reply_timeout_s: float = UNHURRIED_S) -> Iterator[Finding]:
    """Look at the port, the ids and the models, without any calibration."""
    try:
        found = scan_port(path, baud_rates=(DEFAULT_BAUD_RATE,), reply_timeout_s=reply_timeout_s)
    except RobotError as error:
        text, _, fix = str(error).rpartition("; ")
        yield Finding(name="port", is_good=False, text=text, fix=fix)
        return
    yield Finding(name="port", is_good=True, text=path)
    models = found[0].models if found else {}
    missing = [f"{number} ({joint})" for number, joint in enumerate(JOINTS, start=1) if number not in models]
    extra = sorted(set(models) - set(range(1, len(JOINTS) + 1)))
    text = (f"missing {', '.join(missing)} " if missing else "") + (f"unknown {extra}" if extra else "")
    fix = ""
    if found and found[0].has_collisions:
        text = f"answers collide: two motors have one id, or the line is bad; {text}"
        fix = "give them their ids one at a time: opentau robot setup"
    elif missing or extra:
        fix = "check the cable of the first missing motor and the power; for an unknown id run: opentau robot setup"
    else:
        text = ", ".join(f"{number} {joint}" for number, joint in enumerate(JOINTS, start=1))
    yield Finding(name="ids", is_good=not fix, text=text.strip(), fix=fix)
    wrong = {motor_id: model for motor_id, model in models.items() if model != MODEL_NAMES[MODEL_NUMBER]}
    if wrong:
        fix = "an SO-101 has STS3215 motors: exchange them"
        yield Finding(name="models", is_good=False, text=str(wrong), fix=fix)


def check_motors(arm: Arm) -> Iterator[Finding]:
    """Look at supply, temperatures, faults and calibration of a connected arm."""
    ticks, health = arm.positions_and_health()
    voltages = {joint: each.voltage for joint, each in health.items()}
    shown = ", ".join(f"{voltage:.1f}" for voltage in voltages.values()) + " V"
    low = arm.bus.read("Min_Voltage_Limit", arm.ids[0]) / 10
    high = arm.bus.read("Max_Voltage_Limit", arm.ids[0]) / 10
    if min(voltages.values()) < low or max(voltages.values()) > high:
        fix = f"the motors take {low} to {high} V: check the power adapter, its plug and its rating (5 V 4 A, or 12 V 5 A)"
        yield Finding(name="supply", is_good=False, text=shown, fix=fix)
    elif max(voltages.values()) - min(voltages.values()) > MAX_VOLTAGE_DROP:
        fix = "the voltage falls along the chain: press the plugs in, exchange the cable before the lowest one"
        yield Finding(name="supply", is_good=False, text=shown, fix=fix)
    else:
        yield Finding(name="supply", is_good=True, text=shown)
    hot = [joint for joint, each in health.items() if each.temperature > MAX_TEMPERATURE]
    temperatures = ", ".join(str(each.temperature) for each in health.values()) + " °C"
    fix = f"switch the arm off and let {', '.join(hot)} cool below {MAX_TEMPERATURE} °C" if hot else ""
    yield Finding(name="temperatures", is_good=not hot, text=temperatures, fix=fix)
    for joint, each in health.items():
        if each.status:
            yield Finding(name=f"motor {joint}", is_good=False, text="fault", fix=describe_status(each.status))
    yield from _check_calibration(arm, ticks)


def _check_calibration(arm: Arm, ticks: dict[int, int]) -> Iterator[Finding]:
    try:
        arm.require_calibration()
    except RobotError as error:
        text, _, fix = str(error).rpartition("; ")
        yield Finding(name="calibration", is_good=False, text=text, fix=fix)
        return
    yield Finding(name="calibration", is_good=True, text="the motors hold what the file says")
    outside = [
        f"{joint} at {ticks[entry.id]} of {entry.range_min} to {entry.range_max}"
        for joint, entry in arm.calibration.items()
        if not entry.range_min - _NUDGE_TICKS <= ticks[entry.id] <= entry.range_max + _NUDGE_TICKS
    ]
    fix = "move it into its range by hand; if it is there already, calibrate again" if outside else ""
    yield Finding(name="ranges", is_good=not outside, text=", ".join(outside) or "every joint stands within its range", fix=fix)


def check_directions(arm: Arm) -> Iterator[Finding]:
    """Move each joint by 3.5 degrees and back, and see that it follows the right way.

    The arm must be powered, its surroundings free.
    """
    for joint in JOINTS:
        entry, before = arm.calibration[joint], arm.positions()
        at = before[entry.id]
        step = _NUDGE_TICKS if at + _NUDGE_TICKS <= entry.range_max else -_NUDGE_TICKS
        arm.bus.sync_write("Goal_Position", {entry.id: at + step})
        time.sleep(_NUDGE_S)
        after = arm.positions()
        arm.bus.sync_write("Goal_Position", {entry.id: at})
        time.sleep(_NUDGE_S)
        moved, share = after[entry.id] - at, (after[entry.id] - at) / step
        text = f"asked {step:+d} ticks, moved {moved:+d}"
        if share < -0.3:
            fix = (
                "the motor runs the wrong way: set its Phase back to the factory value with Feetech's software, then calibrate"
            )
        elif share < 0.3:
            held = "what the gripper holds" if joint == GRIPPER else "the joint"
            fix = f"it does not follow: free {held}, check its power and whether its horn is screwed on"
        else:
            fix = ""
        yield Finding(name=f"direction {joint}", is_good=not fix, text=text, fix=fix)


def check_camera(camera: Camera, *, seconds: float = 1.0) -> tuple[Finding, np.ndarray | None]:
    """Watch a started camera for a while: its rate, its pictures' age, and whether it shows anything."""
    first, started, ages = camera.num_frames, time.monotonic(), []
    try:
        while time.monotonic() - started < seconds:
            picture, age = camera.latest()
            ages.append(age)
            time.sleep(0.02)
    except RobotError as error:
        return Finding(name=f"camera {camera.name}", is_good=False, text=str(error), fix="check its plug"), None
    rate = (camera.num_frames - first) / (time.monotonic() - started)
    text = f"{picture.shape[1]}x{picture.shape[0]} at {rate:.0f} Hz, pictures up to {1000 * max(ages):.0f} ms old"
    fix = ""
    if rate < _MIN_RATE_SHARE * camera.rate_hz:
        fix = f"{camera.rate_hz:.0f} Hz are wanted: give it light, a USB port of its own, or pixel_format: mjpeg"
    elif picture.std() < 1.0:
        fix = "the picture is of one colour: take the lens cap off, and see that it is the right camera"
    return Finding(name=f"camera {camera.name}", is_good=not fix, text=text, fix=fix), picture
