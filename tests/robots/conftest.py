"""Emulated arms on real pseudo-terminals; the fixtures own them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robot_bridge.robots.calibration import write_calibration
from robot_bridge.robots.emulator import BusEmulator, EmulatorSpec
from robot_bridge.robots.feetech import FeetechBus
from robot_bridge.robots.plant import FirstOrderArm
from tests.robots.calibrated import CALIBRATION, OFFSETS, PATIENT_S

Emulated = Callable[..., BusEmulator]


@pytest.fixture
def calibration_file(tmp_path: Path) -> Path:
    path = tmp_path / "arm.json"
    write_calibration(path, CALIBRATION)
    return path


@pytest.fixture
def emulated(tmp_path: Path, calibration_file: Path) -> Iterator[Emulated]:
    """Return a function that starts an emulated arm with the given options; calibrated by default."""
    with contextlib.ExitStack() as stack:

        def start(*, plant: FirstOrderArm | None = None, name: str = "arm", **options: Any) -> BusEmulator:
            zero_ticks = tuple(2048 + offset for offset in OFFSETS)
            given = {"calibration": str(calibration_file), "zero_ticks": zero_ticks, **options}
            spec = EmulatorSpec(plant={}, link=str(tmp_path / name), **given)
            emulator = BusEmulator(spec, plant=plant or FirstOrderArm())
            emulator.start()
            stack.callback(emulator.close)
            return emulator

        yield start


@pytest.fixture
def bus_to(request: pytest.FixtureRequest) -> Callable[[BusEmulator], FeetechBus]:
    """Return a function that opens a host's end of an emulated bus."""

    def connect(emulator: BusEmulator, **options: Any) -> FeetechBus:
        bus = FeetechBus(emulator.link, **{"reply_timeout_s": PATIENT_S, **options})
        bus.open()
        request.addfinalizer(bus.close)
        return bus

    return connect
