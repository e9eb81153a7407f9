"""Any robot of LeRobot's as a station plays it (protocol `Robot`); it runs in LeRobot's environment."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lerobot.robots
import numpy as np
from lerobot.robots.config import RobotConfig
from lerobot.robots.utils import make_robot_from_config

from lerobot_side.devices import as_robot_errors, make_config, opened
from opentau.errors import OptionError, RobotError
from opentau.types import Interface, Reading, is_gripper

CHANGED = 1e-3
"""How far what LeRobot says it sent may be from what it was given."""


class LeRobotRobot:
    """A robot that LeRobot drives. Limits are the station's; LeRobot's own must be off: what is recorded is what was sent."""

    def __init__(
        self,
        *,
        type: str,
        options: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        action_space: str = "absolute_joint",
        control_hz: float = 30.0,
    ) -> None:
        """`type` and `options`: as LeRobot's configuration has them, cameras included.

        `units` by name of state or action ('shoulder_pan.pos': deg). For robots with LeRobot's switch `use_degrees` they are
        known: degrees or per cent of the range, and per cent for grippers. `action_space`: what its targets are.
        """
        config = make_config(RobotConfig, package=lerobot.robots, type_name=type, options=options or {})
        self._make = functools.partial(make_robot_from_config, config)
        with as_robot_errors(type):
            self._robot = self._make()
        self.robot_type = type
        features = dict(self._robot.observation_features)
        shapes: dict[str, tuple[int, int, int]] = {name: shape for name, shape in features.items() if isinstance(shape, tuple)}
        states = tuple(name for name in features if name not in shapes)
        actions = tuple(self._robot.action_features)
        known = _units_of(config, {*states, *actions}) | dict(units or {})
        missing = [name for name in (*states, *actions) if name not in known]
        if missing:
            raise OptionError(
                f"LeRobot does not say in which unit {missing[0]!r} of {type} is; set units.{missing[0]}: deg, or what it is"
            )
        self.interface = Interface(
            # Depth, one channel, is not looked at.
            cameras={name: shape for name, shape in sorted(shapes.items()) if shape[-1] == 3},
            state_names=states,
            state_units=tuple(known[name] for name in states),
            action_names=actions,
            action_units=tuple(known[name] for name in actions),
            action_space=action_space,
            control_hz=control_hz,
        )

    def connect(self) -> None:
        """Open the robot and take its present pose as the target; raises `RobotError` for one that is not calibrated."""
        command = f"lerobot-calibrate --robot.type={self.robot_type} …"
        self._robot = opened(self._make, name=self.robot_type, command=command)
        self.hold()

    def read(self) -> Reading:
        """Return what LeRobot observes; ages count from a camera's exposure where LeRobot knows it, else from the question."""
        asked_s = time.perf_counter()
        with as_robot_errors(self.robot_type):
            seen = self._robot.get_observation()
            state = np.array([seen[name] for name in self.interface.state_names], np.float32)
            images = {name: np.ascontiguousarray(seen[name], np.uint8) for name in self.interface.cameras}
        for name, image in images.items():
            if image.shape != self.interface.cameras[name]:
                raise RobotError(
                    f"camera {name} gave {image.shape}, its options say {self.interface.cameras[name]}; correct them"
                )
        return Reading(
            state=state,
            state_age_s=time.perf_counter() - asked_s,
            images=images,
            image_ages_s={name: self._age_s(name, otherwise=asked_s) for name in images},
        )

    def command(self, action: np.ndarray) -> None:
        """Send targets, float32 [A]; raises `RobotError` where LeRobot sends others."""
        wanted = {name: float(target) for name, target in zip(self.interface.action_names, action, strict=True)}
        with as_robot_errors(self.robot_type):
            sent = self._robot.send_action(wanted)
        for name, target in wanted.items():
            if abs(float(sent.get(name, target)) - target) > CHANGED:
                raise RobotError(
                    f"LeRobot sent {name} to {sent[name]} in place of {target}; switch its own limits off "
                    "(options.max_relative_target: null): those of this station hold, and are recorded"
                )

    def hold(self) -> None:
        state = self.read().state
        named = dict(zip(self.interface.state_names, state, strict=True))
        missing = [name for name in self.interface.action_names if name not in named]
        if missing:
            raise RobotError(
                f"{self.robot_type} observes nothing of its action {missing[0]!r}, and cannot hold; it is no arm for us"
            )
        self.command(np.array([named[name] for name in self.interface.action_names], np.float32))

    def relax(self) -> None:
        """Switch the power of every motor off that LeRobot lets be switched; raises `RobotError` where there is none."""
        buses = list(_buses(self._robot))
        if not buses:
            raise RobotError(
                f"LeRobot's {self.robot_type} has no motors that it switches off by themselves; pull its power plug"
            )
        for bus in buses:
            with as_robot_errors(self.robot_type):
                bus.disable_torque()

    def close(self) -> None:
        """Let go of the robot, which holds its pose unless its options say `disable_torque_on_disconnect: true`."""
        with as_robot_errors(self.robot_type):
            if self._robot.is_connected:
                self._robot.disconnect()

    def _age_s(self, camera: str, *, otherwise: float) -> float:
        source = getattr(self._robot, "cameras", {}).get(camera)
        exposed_s = getattr(source, "latest_timestamp", None)
        return max(0.0, time.perf_counter() - (otherwise if exposed_s is None else exposed_s))


def _units_of(config: Any, names: Sequence[str] | set[str]) -> dict[str, str]:
    """Return the units of positions of robots that LeRobot drives in degrees or per cent, as their configuration says."""
    if not hasattr(config, "use_degrees"):
        return {}
    joint = "deg" if config.use_degrees else "%"
    return {name: "%" if is_gripper(name) else joint for name in names if name.endswith(".pos")}


def _buses(robot: Any) -> Iterator[Any]:
    """Yield the buses of a robot, and of the arms that it is made of."""
    for part in vars(robot).values():
        if callable(getattr(part, "disable_torque", None)):
            yield part
        elif isinstance(part, lerobot.robots.Robot):
            yield from _buses(part)
