"""An emulated bus: bytes in, bytes out; the servos' packets, their silence, and what goes wrong on a real line."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from robot_bridge.robots.registers import BROADCAST_ID, Instruction, checksum
from robot_bridge.robots.servo import Servo

_HEADER = b"\xff\xff"


@dataclass(kw_only=True)
class Faults:
    """What is broken now."""

    missing: set[int] = field(default_factory=set)
    """Ids of motors whose cable is out."""
    noise: float = 0.0
    """Probability that an answer is preceded by stray bytes, and as often that it is damaged."""


class ServoBus:
    """Motors on one line; answers what a host sends at the given speed."""

    def __init__(self, servos: Iterable[Servo], *, seed: int = 0) -> None:
        self.servos = list(servos)
        self.faults = Faults()
        self.num_bad_packets = 0
        self._buffer = b""
        self._random = random.Random(seed)

    def receive(self, data: bytes, *, baud_rate: int) -> bytes:
        """Take bytes from the host and return what the motors that hear them answer."""
        self._buffer += data
        answers = b""
        while (packet := self._next_packet()) is not None:
            motor_id, instruction, parameters = packet
            hearing = [s for s in self.servos if s.baud_rate == baud_rate and s.id not in self.faults.missing]
            answers += self._answer(hearing, motor_id, instruction, parameters)
        return answers

    def _next_packet(self) -> tuple[int, int, bytes] | None:
        """Cut the next whole packet out of the buffer; one with a wrong checksum is dropped, as the motors do."""
        while True:
            start = self._buffer.find(_HEADER)
            if start < 0:
                self._buffer = self._buffer[-1:]
                return None
            self._buffer = self._buffer[start:]
            if self._buffer[2:3] == b"\xff":  # a header is followed by an id, which is less
                self._buffer = self._buffer[1:]
                continue
            if len(self._buffer) < 4 or len(self._buffer) < self._buffer[3] + 4:
                return None
            length = self._buffer[3]
            body, self._buffer = self._buffer[2 : length + 4], self._buffer[length + 4 :]
            if length >= 2 and checksum(body[:-1]) == body[-1]:
                return body[0], body[2], body[3:-1]
            self.num_bad_packets += 1

    def _answer(self, hearing: list[Servo], motor_id: int, instruction: int, parameters: bytes) -> bytes:
        if instruction == Instruction.SYNC_READ and len(parameters) >= 2:
            address, size, *ids = parameters
            return b"".join(self._reply([s for s in hearing if s.id == asked], address, size) for asked in ids)
        if instruction == Instruction.SYNC_WRITE and len(parameters) >= 2:
            _sync_write(hearing, parameters)
            return b""
        addressed = [servo for servo in hearing if motor_id in (servo.id, BROADCAST_ID)]
        if instruction == Instruction.PING:
            motor_ids = sorted({servo.id for servo in addressed})
            return b"".join(self._reply([s for s in addressed if s.id == asked], 0, 0) for asked in motor_ids)
        if instruction == Instruction.READ and len(parameters) == 2:
            return self._reply(addressed, *parameters) if motor_id != BROADCAST_ID else b""
        answering = [servo for servo in addressed if servo.value("Response_Status_Level") == 1]
        frozen_ids = {servo.id for servo in answering}
        for servo in addressed:
            _obey(servo, instruction, parameters)
        return self._reply(answering, 0, 0, as_id=frozen_ids) if motor_id != BROADCAST_ID else b""

    def _reply(self, servos: list[Servo], address: int, size: int, *, as_id: set[int] | None = None) -> bytes:
        """Return one answer; several motors with one id speak at once and damage it."""
        if not servos:
            return b""
        servo = servos[0]
        motor_id = next(iter(as_id)) if as_id else servo.id
        body = bytes([motor_id, size + 2, servo.status()]) + servo.read(address, size)
        answer = _HEADER + body + bytes([checksum(body)])
        if len(servos) > 1:
            answer = answer[:-1] + bytes([answer[-1] ^ 0x5A])
        if self._random.random() < self.faults.noise:
            answer = self._random.randbytes(3) + answer
        if self._random.random() < self.faults.noise:
            answer = answer[:-1] + bytes([answer[-1] ^ 0x01])
        return answer


def _sync_write(hearing: list[Servo], parameters: bytes) -> None:
    address, size, rest = parameters[0], parameters[1], parameters[2:]
    for start in range(0, len(rest) - size, size + 1):
        for servo in hearing:
            if servo.id == rest[start]:
                servo.write(address, rest[start + 1 : start + 1 + size])


def _obey(servo: Servo, instruction: int, parameters: bytes) -> None:
    if instruction == Instruction.WRITE and len(parameters) >= 2:
        servo.write(parameters[0], parameters[1:])
    elif instruction == Instruction.REG_WRITE and len(parameters) >= 2:
        servo.pending = (parameters[0], parameters[1:])
    elif instruction == Instruction.ACTION and servo.pending is not None:
        address, data = servo.pending
        servo.pending = None
        servo.write(address, data)
