"""What hangs on which serial port: motors with their ids, models and speeds; and one motor's first setup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentau.errors import RobotError
from robot_bridge.robots.feetech import UNHURRIED_S, FeetechBus
from robot_bridge.robots.registers import BAUD_RATES, DEFAULT_BAUD_RATE, MODEL_NAMES, MODEL_NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMotors:
    """Who answers on a port at one speed."""

    baud_rate: int
    models: dict[int, str]
    """Motor id to the model's name."""
    has_collisions: bool
    """Whether answers were damaged: two motors with one id, or a bad line."""


def scan_port(path: str, *, baud_rates: Sequence[int] = BAUD_RATES, reply_timeout_s: float = UNHURRIED_S) -> list[FoundMotors]:
    """Ask at every speed who is there; a port that cannot be opened raises `RobotError`."""
    bus = FeetechBus(path, baud_rate=baud_rates[0], reply_timeout_s=reply_timeout_s)
    bus.open()
    try:
        found = [_at_rate(bus, baud_rate) for baud_rate in baud_rates]
    finally:
        bus.close()
    return [motors for motors in found if motors.models or motors.has_collisions]


def set_up_motor(path: str, motor_id: int, *, reply_timeout_s: float = UNHURRIED_S) -> tuple[int, int]:
    """Give the only motor on a port its id and the common speed; returns the id and the speed that it had."""
    found = scan_port(path, reply_timeout_s=reply_timeout_s)
    if not found:
        raise RobotError(f"no motor answers on {path}; plug the three-wire cable and the power in, and try again")
    num_motors = sum(len(motors.models) for motors in found)
    if num_motors != 1 or any(motors.has_collisions for motors in found):
        ids = sorted(motor for motors in found for motor in motors.models)
        raise RobotError(f"motors {ids} answer on {path}; ids are given one motor at a time: unplug all others and try again")
    (old_id,), baud_rate = found[0].models, found[0].baud_rate
    bus = FeetechBus(path, baud_rate=baud_rate, reply_timeout_s=reply_timeout_s)
    bus.open()
    try:
        _require_model(bus.read("Model_Number", old_id), path)
        bus.write("Torque_Enable", old_id, 0)
        bus.write("Lock", old_id, 0)
        bus.write("ID", old_id, motor_id)
        bus.write("Baud_Rate", motor_id, BAUD_RATES.index(DEFAULT_BAUD_RATE))
        bus.port.set_baud_rate(DEFAULT_BAUD_RATE)
        bus.write("Lock", motor_id, 1)
        if bus.read("ID", motor_id) != motor_id:
            raise RobotError(f"motor {old_id} on {path} did not take the id {motor_id}; switch it off and on, and try again")
    finally:
        bus.close()
    return old_id, baud_rate


def new_port(ports: Callable[[], Sequence[str]], *, ask: Callable[[str], str]) -> str:
    """Find an arm's port by pulling its cable; raises `RobotError` when not exactly one port goes."""
    before = set(ports())
    ask("Pull the USB cable of the arm, then press Enter. ")
    gone = sorted(before - set(ports()))
    if len(gone) != 1:
        raise RobotError(f"{len(gone)} ports went away ({gone}); pull exactly the cable of the arm, and try again")
    ask(f"It was {gone[0]}. Plug it in again, then press Enter. ")
    return gone[0]


def _at_rate(bus: FeetechBus, baud_rate: int) -> FoundMotors:
    try:
        bus.port.set_baud_rate(baud_rate)
    except RobotError:  # an adapter without this speed; one that is gone fails here again
        bus.port.set_baud_rate(DEFAULT_BAUD_RATE)
        bus.port.open()
        return FoundMotors(baud_rate=baud_rate, models={}, has_collisions=False)
    ids, has_collisions = bus.scan()
    numbers = {motor_id: bus.read("Model_Number", motor_id) for motor_id in ids}
    models = {motor_id: MODEL_NAMES.get(number, f"model {number}") for motor_id, number in numbers.items()}
    return FoundMotors(baud_rate=baud_rate, models=models, has_collisions=has_collisions)


def _require_model(number: int, path: str) -> None:
    if number != MODEL_NUMBER:
        name = MODEL_NAMES.get(number, f"model {number}")
        raise RobotError(f"the motor on {path} is a {name}; an SO-101 has STS3215 motors ({MODEL_NUMBER}): exchange it")
