"""Any teleoperator of LeRobot's with which a human takes a robot over (protocol `Teleop`); it runs in LeRobot's environment."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import lerobot.teleoperators
import numpy as np
from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.teleoperators.utils import TeleopEvents, make_teleoperator_from_config

from lerobot_side.devices import as_robot_errors, make_config, opened
from opentau.errors import OptionError
from opentau.types import Interface, Outcome, is_gripper
from robot_bridge.teleops.trigger import Trigger

SAME_TICK_S = 0.004
"""Calls of one control tick share a reading."""


class LeRobotTeleop:
    """A device that LeRobot reads. Its actions must be those of the robot, by name; units are those that LeRobot gives both.

    The dead-man's switch is what LeRobot's device says of an intervention where it says so, and else the leader's gripper.
    """

    def __init__(
        self,
        *,
        interface: Interface,
        type: str,
        options: Mapping[str, Any] | None = None,
        squeezed_below: float = 10.0,
        still_within: float = 1.8,
        release_s: float = 1.0,
    ) -> None:
        """`squeezed_below`, `still_within`, `release_s`: of `Trigger`, in the units of the robot's gripper and joints."""
        config = make_config(TeleoperatorConfig, package=lerobot.teleoperators, type_name=type, options=options or {})
        self._make = functools.partial(make_teleoperator_from_config, config)
        with as_robot_errors(type):
            self._device = self._make()
        self._type, self._interface = type, interface
        offered = set(self._device.action_features)
        grippers = [dim for dim, name in enumerate(interface.action_names) if is_gripper(name)]
        if offered != set(interface.action_names):
            raise OptionError(
                f"LeRobot's {type} moves {sorted(offered)}, this robot has {sorted(interface.action_names)}; use another device"
            )
        self._has_events = hasattr(self._device, "get_teleop_events")
        if not grippers and not self._has_events:
            raise OptionError(f"LeRobot's {type} has neither a switch nor a gripper that could be one; use another device")
        self._gripper = grippers[-1] if grippers else 0
        self._trigger = Trigger(squeezed_below=squeezed_below, still_within=still_within, release_s=release_s)
        self._read_at_s, self._action = float("-inf"), np.zeros(len(interface.action_names), np.float32)
        self._verdict: Outcome | None = None

    def connect(self) -> None:
        command = f"lerobot-calibrate --teleop.type={self._type} …"
        self._device = opened(self._make, name=self._type, command=command)

    def wants_control(self) -> bool:
        if not self._has_events:
            action = self._read()
            return self._trigger.update(action, gripper=float(action[self._gripper]), now_s=time.monotonic())
        with as_robot_errors(self._type):
            events = self._device.get_teleop_events()
        if events.get(TeleopEvents.RERECORD_EPISODE):
            self._verdict = Outcome.ABORTED
        elif events.get(TeleopEvents.SUCCESS):
            self._verdict = Outcome.SUCCESS
        elif events.get(TeleopEvents.TERMINATE_EPISODE):
            self._verdict = Outcome.FAILURE
        return bool(events.get(TeleopEvents.IS_INTERVENTION))

    def act(self, state: np.ndarray) -> np.ndarray:
        del state
        return self._read().copy()

    def pose(self) -> np.ndarray | None:
        """Return where the device is, float32 [S]; what the robot observes besides its actions' axes is 0."""
        named = dict(zip(self._interface.action_names, self._read(), strict=True))
        return np.array([named.get(name, 0.0) for name in self._interface.state_names], np.float32)

    def verdict(self) -> Outcome | None:
        verdict, self._verdict = self._verdict, None
        return verdict

    def close(self) -> None:
        with as_robot_errors(self._type):
            if self._device.is_connected:
                self._device.disconnect()

    def _read(self) -> np.ndarray:
        now_s = time.monotonic()
        if now_s - self._read_at_s > SAME_TICK_S:
            with as_robot_errors(self._type):
                action = self._device.get_action()
                self._action = np.array([action[name] for name in self._interface.action_names], np.float32)
            self._read_at_s = time.monotonic()
        return self._action
