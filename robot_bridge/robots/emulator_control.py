"""The emulator's control socket, both ends: faults on demand, the scene's reset and success, pictures, registers.

A request is one frame of JSON, {"verb": …, …}; the answer is a frame of JSON, and for pictures a second of raw pixels.
Loopback only; it is a tool of tests and never part of a run's network.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from opentau.errors import OpenTauError, OptionError, RobotError, near_matches
from robot_bridge.robots.plant import HandMovable, Observable, Plant
from robot_bridge.robots.servo import Servo
from robot_bridge.robots.servo_bus import ServoBus

if TYPE_CHECKING:
    from robot_bridge.robots.emulator import BusEmulator

_MAX_REQUEST_BYTES = 65_536
_POLL_MS = 50
STOP = "stop"


class ControlServer:
    """Answers requests about one emulator, from one thread."""

    def __init__(self, emulator: BusEmulator) -> None:
        self._emulator = emulator
        self._is_stopping = threading.Event()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
        self.endpoint = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()

    def stop(self) -> None:
        self._is_stopping.set()

    def serve(self) -> None:
        """Answer until told to stop."""
        while not self._is_stopping.is_set():
            if self._socket.poll(_POLL_MS):
                peer, *frames = self._socket.recv_multipart()
                self._socket.send_multipart([peer, *self._answer(frames[-1] if frames else b"")])

    def _answer(self, frame: bytes) -> list[bytes]:
        try:
            request = json.loads(frame)
            verb = request.pop("verb")
            if verb not in VERBS:
                raise OptionError(f"unknown verb {verb!r}.{near_matches(verb, VERBS)}")
            if verb == STOP:
                self.stop()
            answer = VERBS[verb](self._emulator, **request)
        except (OpenTauError, ValueError, TypeError, KeyError, AttributeError) as error:
            return [json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()]
        if isinstance(answer, np.ndarray):
            return [json.dumps({"shape": answer.shape}).encode(), np.ascontiguousarray(answer).tobytes()]
        return [json.dumps({"answer": answer}).encode()]


class EmulatorClient:
    """Asks an emulator, in this process or another; use one per thread."""

    def __init__(self, endpoint: str, *, timeout_s: float = 20.0) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(endpoint)
        self._timeout_s = timeout_s

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Return the answer to a verb of `VERBS`; silence and refusals raise `RobotError`."""
        self._socket.send(json.dumps({"verb": verb, **arguments}).encode())
        if not self._socket.poll(int(1000 * self._timeout_s)):
            raise RobotError(f"the emulator did not answer {verb!r} within {self._timeout_s} s; start it again")
        header, *pixels = self._socket.recv_multipart()
        answer = json.loads(header)
        if "error" in answer:
            raise RobotError(f"the emulator refuses {verb!r}: {answer['error']}")
        return np.frombuffer(pixels[0], np.uint8).reshape(answer["shape"]) if pixels else answer["answer"]

    def picture(self, camera: str, size: tuple[int, int]) -> tuple[np.ndarray, float]:
        """Return a picture of `size` (X, Y) and when it was asked for, on this process's monotonic clock."""
        asked = time.monotonic()
        return self.ask("render", camera=camera, size=list(size)), asked

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def _servo(bus: ServoBus, motor_id: int) -> Servo:
    for servo in bus.servos:
        if servo.id == motor_id:
            return servo
    raise OptionError(f"there is no motor {motor_id}; there are {[servo.id for servo in bus.servos]}")


def _set_faults(emulator: BusEmulator, *, missing: list[int] | None = None, noise: float | None = None) -> None:
    def change(bus: ServoBus) -> None:
        bus.faults.missing = bus.faults.missing if missing is None else set(missing)
        bus.faults.noise = bus.faults.noise if noise is None else float(noise)

    emulator.edit(change)


def _store(emulator: BusEmulator, *, motor: int, name: str, value: int) -> None:
    def change(bus: ServoBus) -> None:
        _servo(bus, motor).store(name, value)

    emulator.edit(change)


def _set_voltage(emulator: BusEmulator, *, volts: float) -> None:
    def change(bus: ServoBus) -> None:
        for servo in bus.servos:
            servo.store("Present_Voltage", round(10 * volts))

    emulator.edit(change)


def _set_id(emulator: BusEmulator, *, motor: int, to: int) -> None:
    emulator.edit(lambda bus: _servo(bus, motor).keep("ID", to))


def _registers(emulator: BusEmulator, *, name: str) -> dict[str, int]:
    return emulator.edit(lambda bus: {str(servo.id): servo.value(name) for servo in bus.servos})


def _memory(emulator: BusEmulator) -> list[str]:
    return emulator.edit(lambda bus: [bytes(servo.memory).hex() for servo in bus.servos])


def _move_by_hand(emulator: BusEmulator, *, positions: list[float]) -> None:
    def move(plant: Plant) -> None:
        if not isinstance(plant, HandMovable):
            raise OptionError(f"a {type(plant).__name__} cannot be moved by hand; use a plant with move_by_hand")
        plant.move_by_hand(np.array(positions, np.float64))

    emulator.on_plant(move)


def _reset(emulator: BusEmulator, *, seed: int) -> None:
    emulator.on_plant(lambda plant: plant.reset(int(seed)))


def _state(emulator: BusEmulator) -> list[float]:
    """The plant's whole state, for scripted people who see more than a camera does."""

    def state(plant: Plant) -> list[float]:
        if not isinstance(plant, Observable):
            raise OptionError(f"a {type(plant).__name__} has no state to show; use a plant with get_state")
        return plant.get_state().tolist()

    return emulator.on_plant(state)


VERBS: dict[str, Callable[..., Any]] = {
    STOP: lambda emulator: None,
    "faults": _set_faults,
    "store": _store,
    "voltage": _set_voltage,
    "set_id": _set_id,
    "registers": _registers,
    "memory": _memory,
    "unplug": lambda emulator: emulator.unplug(),
    "plug": lambda emulator: emulator.plug(),
    "restart_motors": lambda emulator: emulator.restart_motors(),
    "move_by_hand": _move_by_hand,
    "positions": lambda emulator: emulator.on_plant(lambda plant: plant.positions().tolist()),
    "reset": _reset,
    "state": _state,
    "is_success": lambda emulator: bool(emulator.on_plant(lambda plant: plant.is_success())),
    "render": lambda emulator, *, camera, size: emulator.on_plant(lambda plant: plant.render(camera, tuple(size))),
}
"""What can be asked; arguments are keywords of the request."""
