"""LeRobot's own SO-101 driver, in its environment, on the same emulated bus as ours: equal readings, equal registers.

It runs where that environment is (`make lerobot-env`, or OPENTAU_LEROBOT_PYTHON).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opentau.errors import OptionError
from opentau.rollout.lerobot_environment import lerobot_python
from robot_bridge.robots.calibration import read_calibration, write_calibration
from robot_bridge.robots.emulator import BusEmulator, EmulatorSpec
from robot_bridge.robots.plant import FirstOrderArm
from robot_bridge.robots.registers import REGISTERS
from robot_bridge.robots.so101 import So101Follower
from tests.robots.calibrated import CALIBRATION, OFFSETS

try:
    lerobot_python()
except OptionError as error:
    pytestmark = [pytest.mark.lerobot, pytest.mark.skip(reason=str(error))]
else:
    pytestmark = [pytest.mark.lerobot, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lerobot_side" / "so101_driver.py"
START = (0.31, -0.72, 0.93, -0.44, 1.55, -0.26)
MIXED = {joint: dataclasses.replace(entry, drive_mode=number % 2) for number, (joint, entry) in enumerate(CALIBRATION.items())}
"""Every second motor's units run against its ticks."""
GOAL = slice(REGISTERS["Goal_Position"].address, REGISTERS["Goal_Position"].address + 2)


class Waiting(FirstOrderArm):
    """An arm that stays where it is, so that what is read does not depend on when."""

    def advance(self, dt_s: float) -> None:
        pass


@contextlib.contextmanager
def emulated(folder: Path, calibration: Path) -> Iterator[BusEmulator]:
    spec = EmulatorSpec(
        plant={},
        link=str(folder / "bus"),
        calibration=str(calibration),
        zero_ticks=tuple(2048 + offset for offset in OFFSETS),
    )
    emulator = BusEmulator(spec, plant=Waiting(start=START))
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.close()


class LeRobotDriver:
    """LeRobot's driver in a process of its own."""

    def __init__(self, port: str, calibration: Path, mode: str) -> None:
        command = [str(lerobot_python()), str(SCRIPT), port, str(calibration), mode]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == {"is_calibrated": True}

    def ask(self, targets: list[float] | None) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(targets) + "\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def memories(emulator: BusEmulator) -> list[bytes]:
    return emulator.edit(lambda bus: [bytes(servo.memory) for servo in bus.servos])


def settled(memory: bytes) -> bytes:
    """Return what a driver has set: all but the present values and the target, which is compared apart."""
    present = REGISTERS["Present_Position"].address
    return memory[: GOAL.start] + memory[GOAL.stop : present] + memory[present + 15 :]


def targets() -> list[list[float]]:
    """Return targets as a policy gives them, float32: within the range, at its ends, and beyond it."""
    rng = np.random.default_rng(7)
    drawn = [*rng.uniform(-100, 100, (40, 6)), np.full(6, 100.0), np.full(6, -100.0), np.full(6, 137.5), np.full(6, -190.0)]
    return [[float(value) for value in np.asarray(row, np.float32)] for row in [*drawn, np.zeros(6)]]


@pytest.mark.parametrize("mode", ["degrees", "percent"])
@pytest.mark.parametrize("calibration", [CALIBRATION, MIXED], ids=["upright", "mixed"])
def test_readings_and_registers_equal_those_of_lerobots_driver(tmp_path, mode, calibration):
    path = tmp_path / "arm.json"
    write_calibration(path, calibration)
    with emulated(tmp_path, path) as emulator:
        theirs = LeRobotDriver(emulator.link, path, mode)
        their_memory = memories(emulator)
        their_positions = theirs.ask(None)
        their_goals = []
        for row in targets():
            assert theirs.ask(row) == their_positions
            their_goals.append([memory[GOAL] for memory in memories(emulator)])
        theirs.close()
    with emulated(tmp_path, path) as emulator:
        ours = So101Follower(port=emulator.link, calibration=str(path), use_degrees=mode == "degrees", reply_timeout_s=0.3)
        ours.connect()
        our_memory = memories(emulator)
        assert ours.read().state.tolist() == [float(np.float32(value)) for value in their_positions]
        our_goals = []
        for row in targets():
            ours.command(np.array(row, np.float32))
            ours.arm.positions()  # answered after the command has arrived
            our_goals.append([memory[GOAL] for memory in memories(emulator)])
        ours.close()
    assert our_goals == their_goals
    assert len({tuple(goals) for goals in our_goals}) > 40
    assert [settled(memory) for memory in our_memory] == [settled(memory) for memory in their_memory]


def test_lerobot_takes_a_calibration_that_we_wrote_as_its_own(tmp_path):
    path = tmp_path / "arm.json"
    write_calibration(path, MIXED)
    with emulated(tmp_path, path) as emulator:
        LeRobotDriver(emulator.link, path, "degrees").close()
    assert read_calibration(path) == MIXED
