"""The bus of STS3215 servos, through Feetech's SDK: named registers, retries, and errors that name the motor and the fix."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentau.errors import RobotError
from robot_bridge.robots.registers import (
    BROADCAST_ID,
    DEFAULT_BAUD_RATE,
    MAX_ID,
    REGISTERS,
    Instruction,
    StatusBit,
    checksum,
    decode,
    encode,
)
from robot_bridge.robots.serial_port import EXTRA, SerialPort

UNHURRIED_S = 0.1
"""How long to wait for an answer where no control step waits: a busy machine may be late."""
_SUCCESS, _TIMEOUT = 0, -6
_RESULTS = {-1: "the port is in use", -2: "the packet could not be sent", -6: "no answer", -7: "a damaged answer"}
_STATUS = {
    StatusBit.VOLTAGE: "the supply voltage is out of its limits; check the power adapter and its plug",
    StatusBit.ANGLE: "the position sensor fails; restart the motor, and replace it if that does not help",
    StatusBit.OVERHEAT: "it is too hot; switch it off and let it cool down",
    StatusBit.OVER_CURRENT: "it draws too much current; see whether the joint is blocked",
    StatusBit.OVERLOAD: "it is overloaded; free the joint, then switch the arm off and on",
}


class FeetechBus:
    """Read and write the servos' registers; safe to use from several threads, one packet at a time."""

    def __init__(
        self, path: str, *, baud_rate: int = DEFAULT_BAUD_RATE, reply_timeout_s: float = 0.02, num_retries: int = 2
    ) -> None:
        self.port = SerialPort(path, baud_rate=baud_rate, reply_timeout_s=reply_timeout_s)
        self.num_failures = 0
        """Packets that had to be repeated, or failed in the end."""
        self._num_retries = num_retries
        self._lock = threading.RLock()
        self._sdk: Any = None
        self._packets: Any = None

    def open(self) -> None:
        """Open the port; nothing is asked of the motors."""
        self._sdk = _require_sdk()
        self._packets = self._sdk.PacketHandler(0)
        self.port.open()

    def close(self) -> None:
        """Close the port and leave the motors as they are."""
        with self._lock:
            self.port.close()

    def ping(self, motor_id: int) -> int | None:
        """Return the model number of a motor, or None when nobody answers under that id.

        The SDK's own ping fails on the late answer to a packet before: that one confirms something and holds no number.
        """

        def attempt() -> tuple[int | None, int]:
            model, result = self._read_once("Model_Number", motor_id)
            return (None, _SUCCESS) if result == _TIMEOUT else (model, result)

        return self._repeat(attempt, what=f"ping of motor {motor_id}")

    def scan(self) -> tuple[list[int], bool]:
        """Ask everybody at once: the ids that answer, and whether answers collided (two motors with one id)."""
        with self._lock:
            packet = [0xFF, 0xFF, BROADCAST_ID, 2, Instruction.PING, 0]
            result = self._packets.txPacket(self.port, packet)
            self.port.is_using = False
            if result != _SUCCESS:
                raise RobotError(f"port {self.port.path}: {_RESULTS.get(result, result)}; plug the arm in again")
            return parse_pings(self._read_until_quiet())

    def read(self, name: str, motor_id: int) -> int:
        """Return one register of one motor."""
        return self._repeat(lambda: self._read_once(name, motor_id), what=f"reading {name} of motor {motor_id}")

    def write(self, name: str, motor_id: int, value: int) -> None:
        """Write one register and wait until the motor confirms; raises `RobotError`, also where it reports a fault."""
        register, data = REGISTERS[name], list(encode(name, value))

        def attempt() -> tuple[int, int]:
            result, error = self._packets.writeTxRx(self.port, motor_id, register.address, register.size, data)
            return error, result

        error = self._repeat(attempt, what=f"writing {name} of motor {motor_id}")
        if error & ~StatusBit.VOLTAGE:  # a weak supply is reported by every answer: `health` and `check` speak of it
            raise RobotError(f"motor {motor_id} reports a fault: {describe_status(error)}")

    def write_all(self, name: str, value: int) -> None:
        """Write one register of every motor there is, without any answer."""
        register, data = REGISTERS[name], list(encode(name, value))
        with self._lock:
            self.port.is_using = False
            self._packets.writeTxOnly(self.port, BROADCAST_ID, register.address, register.size, data)

    def sync_read(self, name: str, motor_ids: Iterable[int], *, deadline_s: float | None = None) -> dict[int, int]:
        """Return one register of several motors in one exchange; no retry begins later than `deadline_s` from now."""
        register = REGISTERS[name]
        blocks = self.read_blocks(register.address, register.size, motor_ids, deadline_s=deadline_s)
        return {motor_id: decode(name, block) for motor_id, block in blocks.items()}

    def read_blocks(
        self, address: int, size: int, motor_ids: Iterable[int], *, deadline_s: float | None = None
    ) -> dict[int, bytes]:
        """Return the same stretch of memory of several motors in one exchange."""
        asked = list(motor_ids)

        def attempt() -> tuple[dict[int, bytes], int]:
            group = self._sdk.GroupSyncRead(self.port, self._packets, address, size)
            for motor_id in asked:
                group.addParam(motor_id)
            result = group.txRxPacket()
            silent = [motor_id for motor_id in asked if len(group.data_dict[motor_id]) != size]
            if result != _SUCCESS or silent:
                return {motor_id: b"" for motor_id in silent[:1]}, result or -7
            return {motor_id: bytes(data) for motor_id, data in group.data_dict.items()}, _SUCCESS

        return self._repeat(attempt, what=f"reading motors {_span(asked)}", deadline_s=deadline_s)

    def sync_write(self, name: str, values: Mapping[int, int]) -> None:
        """Write one register of several motors in one packet, which nobody confirms."""
        with self._lock:
            register = REGISTERS[name]
            group = self._sdk.GroupSyncWrite(self.port, self._packets, register.address, register.size)
            for motor_id, value in values.items():
                group.addParam(motor_id, list(encode(name, value)))
            self.port.is_using = False
            result = group.txPacket()
        if result != _SUCCESS:
            raise RobotError(f"writing {name}: {_RESULTS.get(result, result)} on {self.port.path}; plug the arm in again")

    def _read_once(self, name: str, motor_id: int) -> tuple[int, int]:
        """Return one register and the SDK's result; an answer of another length is a damaged one."""
        register = REGISTERS[name]
        data, result, _ = self._packets.readTxRx(self.port, motor_id, register.address, register.size)
        if result == _SUCCESS and len(data) == register.size:
            return decode(name, bytes(data)), _SUCCESS
        return 0, result or -7

    def _repeat(self, attempt: Callable[[], tuple[Any, int]], *, what: str, deadline_s: float | None = None) -> Any:
        """Run an exchange until it succeeds, at most `num_retries` more times."""
        started = time.monotonic()
        with self._lock:
            for _ in range(1 + self._num_retries):
                self.port.is_using = False
                value, result = attempt()
                if result == _SUCCESS:
                    return value
                self.num_failures += 1
                if deadline_s is not None and time.monotonic() - started + self.port.reply_timeout_s > deadline_s:
                    break
        silent = f" from motor {next(iter(value))}" if isinstance(value, dict) and value else ""
        raise RobotError(
            f"{what} on {self.port.path}: {_RESULTS.get(result, result)}{silent}; check the plugs of its three-wire cable, the "
            "power supply, and with `opentau robot find` that every motor has its own id"
        )

    def _read_until_quiet(self) -> bytes:
        """Return what arrives until nothing has for a while; the last of 253 motors may answer late."""
        received, quiet_since = b"", time.monotonic()
        while time.monotonic() - quiet_since < max(0.03, 2 * self.port.reply_timeout_s):
            block = self.port.readPort(256)
            if block:
                received, quiet_since = received + block, time.monotonic()
        return received


def parse_pings(received: bytes) -> tuple[list[int], bool]:
    """Return the ids in a run of status packets, and whether some were damaged or came twice."""
    ids: list[int] = []
    is_damaged, at = False, 0
    while at < len(received):
        packet = received[at : at + 6]
        is_whole = len(packet) == 6 and packet[:2] == b"\xff\xff" and packet[3] == 2 and packet[5] == checksum(packet[2:5])
        if is_whole and packet[2] <= MAX_ID:
            is_damaged |= packet[2] in ids
            ids.append(packet[2])
            at += 6
        else:
            is_damaged, at = True, at + 1
    return sorted(set(ids)), is_damaged


def describe_status(error: int) -> str:
    """Return what a status packet's error byte says, in words with the fix."""
    return "; ".join(text for bit, text in _STATUS.items() if error & bit) or f"code {error}"


def _span(ids: list[int]) -> str:
    return f"{ids[0]} to {ids[-1]}" if len(ids) > 1 and ids == list(range(ids[0], ids[-1] + 1)) else ", ".join(map(str, ids))


def _require_sdk() -> Any:
    try:
        import scservo_sdk  # feetech-servo-sdk, of the extra 'robot'
    except ImportError as error:
        raise RobotError(f"Feetech's SDK is missing; {EXTRA}") from error
    return scservo_sdk
