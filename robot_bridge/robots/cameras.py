"""Cameras as a robot needs them: a thread each that keeps the newest picture with its age and opens it again when lost."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import numpy as np

from opentau.errors import RobotError
from robot_bridge.robots.emulator_control import EmulatorClient

_REOPEN_AFTER_S = 0.5


class FrameSource(Protocol):
    """One camera, used from one thread."""

    shape: tuple[int, int, int]
    """(Y, X, 3) of its pictures."""
    rate_hz: float

    def open(self) -> None:
        """Open the device; raises `RobotError` that names it and the fix."""
        ...

    def read(self) -> tuple[np.ndarray, float]:
        """Wait for the next picture: uint8 [Y, X, 3] RGB upright, and its exposure on the monotonic clock, seconds."""
        ...

    def close(self) -> None: ...


class Camera:
    """The newest picture of a source; `latest` never waits."""

    def __init__(self, name: str, source: FrameSource, *, max_age_s: float = 0.5) -> None:
        self.name = name
        self.num_frames = 0
        self._source = source
        self._max_age_s = max_age_s
        self._newest: tuple[np.ndarray, float] | None = None
        self._problem = "it has not started"
        self._has_frame = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._source.shape

    @property
    def rate_hz(self) -> float:
        return self._source.rate_hz

    def start(self, *, timeout_s: float = 10.0) -> None:
        """Open the camera and wait for its first picture; raises `RobotError`."""
        if self._thread is None:
            self._stopping.clear()
            self._has_frame.clear()
            self._thread = threading.Thread(target=self._run, daemon=True, name=f"camera {self.name}")
            self._thread.start()
        if not self._has_frame.wait(timeout_s):
            problem = self._problem
            self.close()
            raise RobotError(f"camera {self.name!r} gave no picture within {timeout_s} s: {problem}")

    def latest(self) -> tuple[np.ndarray, float]:
        """Return the newest picture and its age in seconds; one that is too old raises `RobotError`."""
        newest = self._newest
        age = float("inf") if newest is None else time.monotonic() - newest[1]
        if newest is None or age > self._max_age_s:
            raise RobotError(
                f"camera {self.name!r} gave no picture for {age:.1f} s (limit {self._max_age_s} s): {self._problem}; see to "
                "its plug, it is opened again by itself"
            )
        return newest[0], age

    def close(self) -> None:
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._source.open()
                while not self._stopping.is_set():
                    self._newest = self._source.read()
                    self.num_frames += 1
                    self._problem = "it is slow"
                    self._has_frame.set()
            except RobotError as error:
                self._problem = str(error)
                self._stopping.wait(_REOPEN_AFTER_S)
            finally:
                self._source.close()


class EmulatedCamera:
    """A camera of an emulated arm: pictures that its emulator renders."""

    def __init__(self, *, control: str, camera: str, width: int, height: int, rate_hz: float = 30.0) -> None:
        self.shape = (height, width, 3)
        self.rate_hz = rate_hz
        self._control = control
        self._camera = camera
        self._client: EmulatorClient | None = None
        self._next = 0.0

    def open(self) -> None:
        self._client = EmulatorClient(self._control, timeout_s=5.0)
        self._next = time.monotonic()

    def read(self) -> tuple[np.ndarray, float]:
        assert self._client is not None, "open comes first"
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next, time.monotonic() - 1 / self.rate_hz) + 1 / self.rate_hz
        picture, exposed = self._client.picture(self._camera, (self.shape[1], self.shape[0]))
        if picture.shape != self.shape:
            raise RobotError(f"the emulator's camera {self._camera!r} gives {picture.shape}, asked for {self.shape}")
        return picture, exposed

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
