"""Emulated arms on real pseudo-terminals; the fixtures own them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from robot_bridge.robots.calibration import write_calibration
from robot_bridge.robots.emulator import BusEmulator, EmulatorSpec
from robot_bridge.robots.emulator_control import EmulatorClient
from robot_bridge.robots.feetech import FeetechBus
from robot_bridge.robots.plant import FirstOrderArm
from tests.robots.calibrated import CALIBRATION, PATIENT_S, ZERO_TICKS

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
            given = {"calibration": str(calibration_file), "zero_ticks": tuple(ZERO_TICKS), **options}
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


@pytest.fixture
def programs(tmp_path: Path, calibration_file: Path) -> Iterator[Callable[..., SimpleNamespace]]:
    """Return a function that starts an emulator program and gives its port, its control client and where that is."""
    with contextlib.ExitStack() as stack:

        def start(name: str = "follower", **options: Any) -> SimpleNamespace:
            plant = {"target": "robot_bridge.robots.plant:FirstOrderArm"}
            spec = {"plant": plant, "link": str(tmp_path / name), "zero_ticks": ZERO_TICKS, **options}
            spec.setdefault("calibration", str(calibration_file))
            path = tmp_path / f"{name}.yaml"
            path.write_text(yaml.safe_dump(spec))
            command = [sys.executable, "-P", "-m", "robot_bridge.robots.emulator", str(path)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait, timeout=20)
            stack.callback(process.send_signal, signal.SIGTERM)
            said = json.loads(process.stdout.readline())
            client = EmulatorClient(said["control"])
            stack.callback(client.close)
            return SimpleNamespace(port=said["port"], control=said["control"], client=client, process=process)

        yield start
