"""Teleoperation by gamepad, read from the kernel's joystick device: Linux only, other systems are told so."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from opentau.errors import RobotError
from opentau.types import Interface, Outcome
from robot_bridge.teleops.jogging import Jog

# An event is the time in ms (u32), the value (s16), the kind (u8) and the number of the button or axis (u8):
# https://www.kernel.org/doc/html/latest/input/joydev/joystick-api.html
EVENT = struct.Struct("<IhBB")
BUTTON, AXIS, INITIAL = 0x01, 0x02, 0x80
FULL = 32767.0
DEVICES = Path("/dev/input")


class GamepadTeleop:
    """Jog a robot by sticks and buttons while the dead-man button is held.

    The numbers of axes and buttons differ between gamepads; `jstest` of Linux shows them. Defaults are those of an Xbox pad:
    sticks and buttons move the dimensions, the left shoulder button is the dead-man's, A, B and Y label success, failure and
    discard, Back stops the robot and Start lets it move again.
    """

    def __init__(
        self,
        *,
        interface: Interface,
        device: str | None = None,
        axes: Sequence[int] = (0, 1, 4, 3),
        inverted_axes: Sequence[int] = (1, 4),
        button_pairs: Sequence[Sequence[int]] = ((10, 9), (5, 2)),
        dead_man_button: int = 4,
        verdict_buttons: Mapping[str, int] | None = None,
        stop_button: int = 6,
        rearm_button: int = 7,
        dead_zone: float = 0.12,
        speed: float | None = None,
        speeds: Mapping[str, float] | None = None,
    ) -> None:
        """`axes` move the first dimensions, `button_pairs` (up, down) the next; `dead_zone`: share of a stick's way."""
        num_dims, num_controls = len(interface.action_names), len(axes) + len(button_pairs)
        if num_controls < num_dims:
            raise RobotError(f"axes and button_pairs move {num_controls} dimensions, this robot has {num_dims}; name more")
        self._jog = Jog(interface=interface, speed=speed, speeds=speeds)
        self._num_dims = num_dims
        self._axes, self._inverted = tuple(axes), frozenset(inverted_axes)
        self._button_pairs = [(int(up), int(down)) for up, down in button_pairs]
        self._dead_man = dead_man_button
        buttons = verdict_buttons or {"success": 0, "failure": 1, "aborted": 3}
        self._verdicts = {number: Outcome(name) for name, number in buttons.items()}
        self._stop, self._rearm = stop_button, rearm_button
        self._dead_zone = dead_zone
        self._device = device
        self._file: int | None = None
        self._axis_values: dict[int, float] = {}
        self._pressed: set[int] = set()
        self._verdict: Outcome | None = None
        self._clicked: set[int] = set()

    def connect(self) -> None:
        """Open the device; without a name the first joystick that there is."""
        found = [self._device] if self._device else sorted(str(path) for path in DEVICES.glob("js*"))
        if not found:
            raise RobotError(
                f"no gamepad was found: there is no {DEVICES}/js*. Plug one in, load the kernel module joydev, or, where there "
                "is no such device (macOS, Windows), use the keyboard or a leader arm"
            )
        try:
            self._file = os.open(found[0], os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise RobotError(f"the gamepad {found[0]} cannot be opened: {error.strerror}. May you read it?") from error

    def wants_control(self) -> bool:
        self._read()
        is_held = self._dead_man in self._pressed
        if not is_held:
            self._jog.start()
        return is_held

    def act(self, state: np.ndarray) -> np.ndarray:
        self._read()
        rates = [self._stick(axis) for axis in self._axes]
        rates += [float(up in self._pressed) - float(down in self._pressed) for up, down in self._button_pairs]
        return self._jog.act(state, rate_A=np.array(rates[: self._num_dims]))

    def pose(self) -> np.ndarray | None:
        return None  # sticks have no pose: a takeover starts where the robot is

    def verdict(self) -> Outcome | None:
        self._read()
        verdict, self._verdict = self._verdict, None
        return verdict

    def wants_stop(self) -> bool:
        """Return whether the stop was pressed since the last call."""
        return self._takes_click(self._stop)

    def wants_rearm(self) -> bool:
        """Return whether the stop was released since the last call."""
        return self._takes_click(self._rearm)

    def _takes_click(self, number: int) -> bool:
        self._read()
        is_clicked = number in self._clicked
        self._clicked.discard(number)
        return is_clicked

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _stick(self, axis: int) -> float:
        value = self._axis_values.get(axis, 0.0) * (-1.0 if axis in self._inverted else 1.0)
        beyond = max(0.0, abs(value) - self._dead_zone) / (1.0 - self._dead_zone)
        return float(np.copysign(beyond, value))

    def _read(self) -> None:
        """Take in what has happened; a gamepad that is gone lets go of everything and raises."""
        assert self._file is not None, "connect first"
        while True:
            try:
                data = os.read(self._file, EVENT.size)
            except BlockingIOError:
                return
            except OSError as error:
                self._pressed.clear()
                raise RobotError(f"the gamepad does not answer any more: {error.strerror}. Plug it in again") from error
            if len(data) < EVENT.size:
                return
            _, value, kind, number = EVENT.unpack(data)
            if kind & ~INITIAL == AXIS:
                self._axis_values[number] = value / FULL
            elif kind & ~INITIAL == BUTTON:
                self._press(number, is_down=value != 0, is_new=not kind & INITIAL)

    def _press(self, number: int, *, is_down: bool, is_new: bool) -> None:
        (self._pressed.add if is_down else self._pressed.discard)(number)
        if is_down and is_new:
            self._clicked.add(number)
            self._verdict = self._verdicts.get(number, self._verdict)
