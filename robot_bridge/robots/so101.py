"""The SO-101: the follower arm as a `Robot`, the leader arm as a `Teleop`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from opentau.config import build
from opentau.errors import OptionError, RobotError
from opentau.types import Interface, Outcome, Reading
from robot_bridge.robots.arm import Arm, MotorHealth
from robot_bridge.robots.calibration import GRIPPER, JOINTS, read_calibration, units_of
from robot_bridge.robots.cameras import Camera
from robot_bridge.robots.feetech import FeetechBus, describe_status
from robot_bridge.robots.registers import BROADCAST_ID, TICKS_PER_TURN
from robot_bridge.teleops.trigger import Trigger

NAMES = tuple(f"{joint}.pos" for joint in JOINTS)
_HEALTH_EVERY_S = 1.0
_SAME_STEP_S = 0.004


class So101Follower:
    """The arm that acts. `read` and `command` run in the caller's thread, cameras in theirs."""

    def __init__(
        self,
        *,
        port: str,
        calibration: str,
        cameras: Mapping[str, Mapping[str, Any]] | None = None,
        use_degrees: bool = True,
        control_hz: float = 30.0,
        gains: tuple[int, int, int] = (16, 0, 32),
        max_gripper_torque: float = 0.5,
        max_state_age_s: float = 0.25,
        max_image_age_s: float = 0.5,
        reply_timeout_s: float = 0.02,
        robot_type: str = "so101_follower",
    ) -> None:
        """Targets are degrees or, with `use_degrees` false, -100 to 100 per cent of the range; the gripper's 0 to 100.

        `cameras` holds {name: {target, args}} of frame sources. A bus that answers late is forgiven until the last known
        state is older than `max_state_age_s`.
        """
        self.robot_type = robot_type
        self.health: dict[str, MotorHealth] = {}
        """Per joint, a second old at most."""
        self._arm = Arm(
            FeetechBus(port, reply_timeout_s=reply_timeout_s), read_calibration(calibration), use_degrees=use_degrees
        )
        sources = {name: build(dict(spec)) for name, spec in sorted((cameras or {}).items())}
        self._cameras = {name: Camera(name, source, max_age_s=max_image_age_s) for name, source in sources.items()}
        self._gains = (int(gains[0]), int(gains[1]), int(gains[2]))
        self._max_gripper_torque = max_gripper_torque
        self._max_state_age_s = max_state_age_s
        self._step_s = 1 / control_hz
        self._health_due = 0.0
        self._known: tuple[np.ndarray, float] | None = None
        units = units_of(use_degrees=use_degrees)
        self.interface = Interface(
            cameras={name: camera.shape for name, camera in self._cameras.items()},
            state_names=NAMES,
            state_units=units,
            action_names=NAMES,
            action_units=units,
            action_space="absolute_joint",
            control_hz=control_hz,
        )

    @property
    def arm(self) -> Arm:
        """The motors, for `opentau robot check`."""
        return self._arm

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._cameras

    def connect(self) -> None:
        self._arm.connect()
        try:
            self._arm.require_calibration()
            self._arm.prepare(gains=self._gains, max_gripper_torque=self._max_gripper_torque)
            self.hold()
            self._arm.power(is_on=True)
            for camera in self._cameras.values():
                camera.start()
            self.read()
        except RobotError:
            self.close()
            raise

    def read(self) -> Reading:
        state, age = self._read_state()
        pictures = {name: camera.latest() for name, camera in self._cameras.items()}
        return Reading(
            state=state.copy(),
            state_age_s=age,
            images={name: picture for name, (picture, _) in pictures.items()},
            image_ages_s={name: age for name, (_, age) in pictures.items()},
        )

    def command(self, action: np.ndarray) -> None:
        self._arm.bus.sync_write("Goal_Position", self._arm.to_ticks(action))

    def hold(self) -> None:
        """Take the present pose as the target; in ticks, so that no rounding moves the arm."""
        self._arm.bus.sync_write("Goal_Position", self._arm.positions())

    def relax(self) -> None:
        """Switch the power off by one packet to all, then motor by motor; raises `RobotError` where one stays on."""
        failures = []
        for motor_id in (BROADCAST_ID, *self._arm.ids):
            try:
                self._arm.power_off(motor_id)
            except RobotError as error:
                failures.append(str(error))
        if failures:
            raise RobotError(f"the arm may still be powered: {failures[-1]}. Hold it and pull its power plug")

    def close(self) -> None:
        for camera in self._cameras.values():
            camera.close()
        self._arm.bus.close()

    def _read_state(self) -> tuple[np.ndarray, float]:
        now = time.monotonic()
        try:
            if now >= self._health_due:
                ticks, self.health = self._arm.positions_and_health(deadline_s=self._step_s)
                self._health_due = now + _HEALTH_EVERY_S
                self._require_healthy()
            else:
                ticks = self._arm.positions(deadline_s=self._step_s)
        except _Unhealthy:
            raise
        except RobotError:
            is_forgiven = self._known is not None and now - self._known[1] <= self._max_state_age_s
            if not (is_forgiven and self._arm.bus.port.is_open):
                raise
        else:
            self._known = (self._arm.to_units(ticks), now)
        assert self._known is not None, "a first failure raises"
        return self._known[0], time.monotonic() - self._known[1]

    def _require_healthy(self) -> None:
        faults = {joint: health.status for joint, health in self.health.items() if health.status}
        if faults:
            joint, status = next(iter(faults.items()))
            voltage, temperature = self.health[joint].voltage, self.health[joint].temperature
            raise _Unhealthy(f"motor {joint} at {voltage} V, {temperature} °C: {describe_status(status)}")


class _Unhealthy(RobotError):
    """A motor that reports a fault of its own."""


class So101Leader:
    """The arm that a human moves. Its motors stay off.

    Its dead-man's switch is its trigger (`Trigger`).
    """

    def __init__(
        self,
        *,
        interface: Interface,
        port: str,
        calibration: str,
        squeeze_percent: float = 10.0,
        release_s: float = 1.0,
        still_percent: float = 0.5,
        reply_timeout_s: float = 0.02,
    ) -> None:
        """`interface`: of the robot that it moves, whose units it takes; `OptionError` for one that is no SO-101.

        The trigger counts as squeezed below `squeeze_percent` of its range, the arm as still within `still_percent`.
        """
        use_degrees = next((each for each in (True, False) if interface.action_units == units_of(use_degrees=each)), None)
        if interface.action_names != NAMES or use_degrees is None:
            raise OptionError(
                f"an SO-101's leader moves {list(NAMES)}, and this robot has {list(interface.action_names)} in "
                f"{list(interface.action_units)}; use another device"
            )
        self._arm = Arm(
            FeetechBus(port, reply_timeout_s=reply_timeout_s), read_calibration(calibration), use_degrees=use_degrees
        )
        still_ticks = still_percent / 100 * TICKS_PER_TURN
        self._trigger = Trigger(squeezed_below=squeeze_percent, still_within=still_ticks, release_s=release_s)
        self._ticks: dict[int, int] = {}
        self._read_at = float("-inf")

    def connect(self) -> None:
        """Open the bus and switch the motors off, so that hands can move the arm."""
        self._arm.connect()
        try:
            self._arm.require_calibration()
            self._arm.power(is_on=False)
            self._arm.prepare(gains=None, max_gripper_torque=None)
        except RobotError:
            self._arm.bus.close()
            raise

    def wants_control(self) -> bool:
        ticks = self._read()
        gripper = float(self._arm.to_units(ticks)[JOINTS.index(GRIPPER)])
        return self._trigger.update(np.array(list(ticks.values())), gripper=gripper, now_s=time.monotonic())

    def act(self, state: np.ndarray) -> np.ndarray:
        return self._arm.to_units(self._read())

    def pose(self) -> np.ndarray | None:
        return self._arm.to_units(self._read())

    def verdict(self) -> Outcome | None:
        """Return None: the arm has no button; the keyboard says how an episode ended."""
        return None

    def close(self) -> None:
        self._arm.bus.close()

    def _read(self) -> dict[int, int]:
        """Read the bus, once for the calls of one control step."""
        now = time.monotonic()
        if now - self._read_at > _SAME_STEP_S:
            self._ticks, self._read_at = self._arm.positions(), now
        return self._ticks
