"""A serial port with deadlines on the monotonic clock, in the shape that the Feetech SDK's packet handler expects."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from opentau.errors import RobotError
from robot_bridge.robots.registers import DEFAULT_BAUD_RATE

try:
    from termios import error as TermiosError
except ImportError:  # Windows has no termios
    TermiosError = OSError  # type: ignore[misc,assignment]

EXTRA = "install the extra 'robot' (feetech-servo-sdk, pyserial, av): pip install 'opentau-loop[robot]'"
BITS_PER_BYTE = 10
_POLL_S = 0.001


class SerialPort:
    """What the SDK calls a port handler.

    The SDK's own spins without pause and measures its timeouts on the wall clock, which may jump; this one sleeps in the
    kernel until bytes come. Every failure of the device (unplugged, taken by another program) raises `RobotError`.
    """

    def __init__(self, path: str, *, baud_rate: int = DEFAULT_BAUD_RATE, reply_timeout_s: float = 0.02) -> None:
        self.path = path
        self.is_using = False
        self.reply_timeout_s = reply_timeout_s
        self._baud_rate = baud_rate
        self._device: Any = None
        self._deadline = 0.0

    @property
    def is_open(self) -> bool:
        return self._device is not None

    @property
    def baud_rate(self) -> int:
        return self._baud_rate

    def open(self) -> None:
        """Open the device; raises `RobotError` that says what is wrong with it."""
        serial = require_serial()
        try:
            self._device = serial.Serial(self.path, self._baud_rate, timeout=_POLL_S, write_timeout=0.5)
        except (OSError, ValueError, TermiosError) as error:
            raise RobotError(_opening_failed(self.path, str(error))) from error

    def set_baud_rate(self, baud_rate: int) -> None:
        """Talk at another speed from now on, bits per second."""
        self._baud_rate = baud_rate
        if self._device is not None:
            self.close()
            self.open()

    def close(self) -> None:
        """Close the device, also one that has vanished."""
        device, self._device, self.is_using = self._device, None, False
        if device is not None:
            with contextlib.suppress(OSError, TermiosError):  # the cable is out: there is nothing left to close
                device.close()

    # The names below are the SDK's.

    def clearPort(self) -> None:
        """Forget the bytes of former answers; a late one must not pass for the next."""
        self._do(lambda device: device.read(device.in_waiting))

    def writePort(self, packet: list[int] | bytes) -> int:
        return self._do(lambda device: device.write(bytes(packet)))

    def readPort(self, length: int) -> bytes:
        return self._do(lambda device: device.read(length)) if length > 0 else b""

    def setPacketTimeout(self, packet_length: int) -> None:
        self.setPacketTimeoutMillis(1000 * (packet_length * BITS_PER_BYTE / self._baud_rate + self.reply_timeout_s))

    def setPacketTimeoutMillis(self, milliseconds: float) -> None:
        self._deadline = time.monotonic() + milliseconds / 1000

    def isPacketTimeout(self) -> bool:
        return time.monotonic() > self._deadline

    def getBaudRate(self) -> int:
        return self._baud_rate

    def _do(self, call: Any) -> Any:
        if self._device is None:
            raise RobotError(f"port {self.path} is not open; connect first")
        try:
            return call(self._device)
        except (OSError, TermiosError) as error:
            self.close()
            raise RobotError(
                f"port {self.path} is gone ({error}); plug the arm's USB cable in again and connect, and see that no other "
                "program uses the port"
            ) from error


def require_serial() -> Any:
    """Return pyserial's module; raises `RobotError` that names the extra."""
    try:
        import serial  # pyserial, of the extra 'robot'
    except ImportError as error:
        raise RobotError(f"pyserial is missing; {EXTRA}") from error
    return serial


def list_ports() -> dict[str, str]:
    """Return the serial ports of this machine with what they say of themselves: {"/dev/ttyACM0": "USB Single Serial"}."""
    require_serial()
    from serial.tools.list_ports import comports  # pyserial, of the extra 'robot'

    return {port.device: f"{port.description} {port.serial_number or ''}".strip() for port in comports() if port.vid}


def _opening_failed(path: str, reason: str) -> str:
    if "Permission" in reason or "denied" in reason:
        fix = "allow it: on Linux add yourself to the group of the port (dialout or uucp) and log in again"
    elif "No such file" in reason or "cannot find" in reason:
        fix = "plug the arm in and see `opentau robot find` for the ports there are"
    else:
        fix = "close other programs that use it, or name another port (`opentau robot find` lists them)"
    return f"port {path} cannot be opened: {reason}; {fix}"
