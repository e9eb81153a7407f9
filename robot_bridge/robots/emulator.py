"""An emulated servo bus on a pseudo-terminal, `python -P -m robot_bridge.robots.emulator spec.yaml`, in real time.

A host program opens the terminal as it would a USB adapter; a plant (a simulated arm) moves what the motors say. One line
of JSON on stdout says where the terminal and the control socket are. Linux only: elsewhere pseudo-terminals do not take
the bus's 1 Mbaud, or there are none.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opentau.config import build, options_from
from opentau.errors import OpenTauError, RobotError
from robot_bridge.parents import die_with_parent
from robot_bridge.robots.calibration import JOINTS, read_calibration
from robot_bridge.robots.emulator_control import ControlServer
from robot_bridge.robots.plant import Plant
from robot_bridge.robots.registers import DEFAULT_BAUD_RATE
from robot_bridge.robots.serial_port import BITS_PER_BYTE
from robot_bridge.robots.servo import Mounting, Servo
from robot_bridge.robots.servo_bus import ServoBus

_LONGEST_STEP_S = 0.1
_HOST_SPEEDS = (1_000_000, 500_000, 115_200, 57_600, 38_400, 19_200)
"""Rates that termios names; a host at another one is not understood by any motor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSpec:
    """What the program reads from its yaml."""

    plant: dict[str, Any]
    """{target, args} of the arm."""
    link: str
    """Where a symbolic link to the terminal is kept, as /dev/serial/by-id does for adapters."""
    calibration: str = ""
    """A calibration file that the motors already hold; '' for motors as they come from the factory."""
    zero_ticks: tuple[int, ...] = (2048,) * 6
    """Per motor what its bare encoder reads at the plant's zero angle."""
    directions: tuple[int, ...] = (1,) * 6
    ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    baud_rates: tuple[int, ...] = (DEFAULT_BAUD_RATE,) * 6
    voltage: float = 5.0
    """Volts of the supply."""
    plant_hz: float = 200.0
    seed: int = 0
    parent_pid: int | None = None
    """Process whose end ends the emulator; None for one that was started by hand."""


class BusEmulator:
    """The terminal, its motors and the plant; a thread each for the line and for the plant."""

    def __init__(self, spec: EmulatorSpec, *, plant: Plant | None = None) -> None:
        if not sys.platform.startswith("linux"):
            raise RobotError("the emulated servo bus needs Linux's pseudo-terminals; run it there, or use a real arm")
        self._spec = spec
        self._plant = plant
        self._lock = threading.Lock()
        self._jobs: queue.Queue[tuple[Callable[[Plant], Any], Future[Any]]] = queue.Queue()
        self._stopping = threading.Event()
        self._master = self._slave = -1
        self.bus = ServoBus(_make_servos(spec), seed=spec.seed)
        self._motors = list(self.bus.servos)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._run_line, self._run_plant)]

    @property
    def link(self) -> str:
        """Where a host finds the terminal."""
        return self._spec.link

    def start(self) -> None:
        """Plug the adapter in and let time run; returns when the plant is ready."""
        self.plug()
        for thread in self._threads:
            thread.start()
        self.on_plant(lambda plant: None)

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self.unplug()

    def plug(self) -> None:
        """Appear as a serial device."""
        master, slave = os.openpty()
        import termios  # the class refuses to start where there is none
        import tty

        tty.setraw(slave, termios.TCSANOW)
        link, partial = Path(self._spec.link), Path(self._spec.link + ".partial")
        partial.unlink(missing_ok=True)
        partial.symlink_to(os.ttyname(slave))
        os.replace(partial, link)
        self._master, self._slave = master, slave

    def unplug(self) -> None:
        """Vanish, as a pulled USB cable; the motors keep what they do."""
        with self._lock:
            held = [end for end in (self._slave, self._master) if end >= 0]
            self._master = self._slave = -1
            for end in held:
                os.close(end)
            Path(self._spec.link).unlink(missing_ok=True)

    def restart_motors(self) -> None:
        """Cut the motors' supply for a moment."""
        with self._lock:
            for servo in self._motors:
                servo.restart()

    def edit(self, change: Callable[[ServoBus], Any]) -> Any:
        """Look at or change the bus while no packet is answered."""
        with self._lock:
            return change(self.bus)

    def on_plant(self, call: Callable[[Plant], Any], *, timeout_s: float = 60.0) -> Any:
        """Run something in the plant's thread (rendering is bound to it) and return its answer."""
        answer: Future[Any] = Future()
        self._jobs.put((call, answer))
        return answer.result(timeout=timeout_s)

    def _run_line(self) -> None:
        while not self._stopping.is_set():
            master = self._master
            if master < 0 or not select.select([master], [], [], 0.02)[0]:
                self._stopping.wait(0.02 if master < 0 else 0)
                continue
            with self._lock:
                if master != self._master:
                    continue
                data, rate = os.read(master, 4096), _host_rate(self._slave)
                answer = self.bus.receive(data, baud_rate=rate)
                # What it takes on the wire, so that a measured exchange means something.
                time.sleep((len(data) + len(answer)) * BITS_PER_BYTE / max(rate, 19_200))
                if answer:
                    os.write(master, answer)

    def _run_plant(self) -> None:
        plant: Plant = self._plant or build(self._spec.plant)
        period, last = 1 / self._spec.plant_hz, time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            self._step(plant, min(now - last, _LONGEST_STEP_S))
            last = now
            while not self._jobs.empty():
                call, answer = self._jobs.get()
                try:
                    answer.set_result(call(plant))
                except Exception as error:  # noqa: BLE001  (the border: handed to whoever asked)
                    answer.set_exception(error)
            self._stopping.wait(max(0.0, now + period - time.monotonic()))

    def _step(self, plant: Plant, dt_s: float) -> None:
        with self._lock:
            goals = [servo.goal_rad() for servo in self._motors]
            enabled = [servo.is_powered and servo.id not in self.bus.faults.missing for servo in self._motors]
        plant.set_torque_enabled(enabled)
        plant.set_goals(np.array(goals))
        plant.advance(dt_s)
        positions, velocities, torques = plant.positions(), plant.velocities(), plant.torques()
        with self._lock:
            for index, servo in enumerate(self._motors):
                servo.place(float(positions[index]), speed_rad_s=float(velocities[index]), load=float(torques[index]))


def _make_servos(spec: EmulatorSpec) -> list[Servo]:
    servos = [
        Servo(motor_id, mounting=Mounting(zero_tick=zero, direction=direction), baud_rate=baud_rate)
        for motor_id, zero, direction, baud_rate in zip(
            spec.ids, spec.zero_ticks, spec.directions, spec.baud_rates, strict=True
        )
    ]
    calibration = read_calibration(spec.calibration) if spec.calibration else {}
    for servo, joint in zip(servos, JOINTS, strict=True):
        servo.store("Present_Voltage", round(10 * spec.voltage))
        if joint in calibration:
            servo.keep("Homing_Offset", calibration[joint].homing_offset)
            servo.keep("Min_Position_Limit", calibration[joint].range_min)
            servo.keep("Max_Position_Limit", calibration[joint].range_max)
    return servos


def _host_rate(slave: int) -> int:
    """Return the speed that the host set, bits per second; 0 for one that termios does not name."""
    import termios  # the class refuses to start where there is none

    speed = termios.tcgetattr(slave)[5]
    return next((rate for rate in _HOST_SPEEDS if speed == getattr(termios, f"B{rate}")), 0)


def run(plain: Mapping[str, Any], *, announce: Callable[[str], None]) -> None:
    """Run the emulator until its control socket says stop or SIGTERM comes."""
    spec = options_from(EmulatorSpec, plain, where="emulator")
    die_with_parent(spec.parent_pid)
    emulator = BusEmulator(spec)
    emulator.start()
    try:
        with ControlServer(emulator) as server:
            for name in (signal.SIGTERM, signal.SIGINT):
                signal.signal(name, lambda *_: server.stop())
            announce(json.dumps({"port": emulator.link, "control": server.endpoint}))
            server.serve()
    finally:
        emulator.close()


def main(argv: list[str]) -> int:
    """Run from a yaml file."""
    if len(argv) != 1 or argv[0] in ("-h", "--help"):
        print(f"usage: python -P -m robot_bridge.robots.emulator spec.yaml\n\n{__doc__}", file=sys.stderr)
        return 2
    try:
        run(yaml.safe_load(Path(argv[0]).read_text()), announce=lambda line: print(line, flush=True))
    except OpenTauError as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
