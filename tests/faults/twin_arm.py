"""The SO-101 twin as a robot in the station's own process: real physics and pictures, and a log of every command it got."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from envs.twin.environment import CONTROL_HZ, JointUnits, interface
from envs.twin.plant import CAMERA, START_RAD, So101Plant
from opentau.types import Interface, Reading
from robot_bridge.robots.twin import twin_limits

# Shapes: N commands, J = 6 joints, T frames.

SIZE = 16
"""Pixels of a side."""
_COMMAND = struct.Struct("<6f")
_STAMP = struct.Struct("<q")


def limits_of_twin() -> dict[str, object]:
    """Return the twin's limits as plain data."""
    return twin_limits(So101Plant().ranges_rad, START_RAD)


class TwinArm:
    """Obeys `Robot`. The first bytes of every picture say how many commands came before it, over all programs of this arm."""

    robot_type = "twin_in_process"

    def __init__(self, *, log: str, size: int = SIZE) -> None:
        self.interface = Interface.from_dict(interface(size))
        self._plant = So101Plant()
        self._units = JointUnits(self._plant.ranges_rad)
        self._size = (size, size)
        self._file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._num_commands = os.fstat(self._file).st_size // _COMMAND.size

    def connect(self) -> None: ...

    def read(self) -> Reading:
        pixels = self._plant.render(CAMERA, self._size)
        pixels.reshape(-1)[: _STAMP.size] = np.frombuffer(_STAMP.pack(self._num_commands), np.uint8)
        state = self._units.from_rad(self._plant.positions()).astype(np.float32)
        return Reading(state=state, state_age_s=0.0, images={CAMERA: pixels}, image_ages_s={CAMERA: 0.0})

    def command(self, action: np.ndarray) -> None:
        """Write the command down, then move as far as an arm does in a control tick."""
        os.write(self._file, _COMMAND.pack(*action))
        self._num_commands += 1
        self._plant.set_goals(self._units.to_rad(action))
        self._plant.advance(1.0 / CONTROL_HZ)

    def hold(self) -> None: ...

    def relax(self) -> None: ...

    def close(self) -> None: ...


def commands_in(log: Path) -> np.ndarray:
    """Return what an arm was sent, float32 [N, J]."""
    data = log.read_bytes() if log.is_file() else b""
    return np.frombuffer(data[: len(data) // _COMMAND.size * _COMMAND.size], "<f4").reshape(-1, 6)


def stamps_of(images: np.ndarray) -> np.ndarray:
    """Return how many commands came before each picture of uint8 [T, Y, X, 3], int64 [T]."""
    return np.array([_STAMP.unpack(pixels.reshape(-1)[: _STAMP.size].tobytes())[0] for pixels in images], np.int64)
