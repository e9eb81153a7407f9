"""The limits of a robot's motion: one yaml, typed, checked and named by its hash."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opentau.config import options_from, plain_from
from opentau.errors import OptionError, near_matches
from opentau.types import Interface, content_hash

# Shapes: A action dimensions.


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisLimits:
    """Limits of one action dimension, in its unit of the interface."""

    low: float
    high: float
    velocity: float
    """Per second; for a gripper its rate."""
    acceleration: float
    """Per second squared; also how hard it brakes."""

    def __post_init__(self) -> None:
        numbers = (self.low, self.high, self.velocity, self.acceleration)
        if not all(map(math.isfinite, numbers)) or self.low >= self.high or self.velocity <= 0 or self.acceleration <= 0:
            raise OptionError(
                f"limits of {self.low} to {self.high} at velocity {self.velocity} and acceleration {self.acceleration} "
                "are none; low must be below high, and velocity and acceleration positive"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Everything that bounds how a robot moves on this station, whoever commands it."""

    axes: Mapping[str, AxisLimits]
    """By action name of the robot's interface, every one of them."""
    start_pose: Mapping[str, float] = field(default_factory=dict)
    """Where episodes begin, by action name; axes that are left out stay where they are."""
    safe_pose: Mapping[str, float] = field(default_factory=dict)
    """Where the robot goes when nobody has commanded it for long; axes that are left out stay where they are."""
    damped_after_s: float = 0.25
    """Time without a fresh action after which the robot stops pushing towards its last target and holds where it is."""
    safe_pose_after_s: float = 1.0
    """Time without a fresh action after which it goes to the safe pose."""
    pose_speed: float = 0.5
    """Part of the velocity limits at which it goes to the start pose and to the safe pose."""
    abort_after_s: float = 10.0
    """Time without a fresh action after which the episode is aborted."""
    first_run_scale: float = 0.25
    """Part of the velocity and acceleration limits that the first episode of a checkpoint has that never ran on this robot."""
    max_reading_age_s: float = 1.0
    """Age of a sensor's last reading at which it counts as dead, and the episode is aborted."""
    relaxes_on_stop: bool = False
    """Whether the stop switches the actuators' power off once the robot stands still; else it holds."""

    def __post_init__(self) -> None:
        if not 0 < self.damped_after_s <= self.safe_pose_after_s <= self.abort_after_s:
            raise OptionError(
                f"damped_after_s is {self.damped_after_s}, safe_pose_after_s {self.safe_pose_after_s} and abort_after_s "
                f"{self.abort_after_s}; each must be positive and none shorter than the one before"
            )
        for name in ("pose_speed", "first_run_scale"):
            if not 0 < getattr(self, name) <= 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        if self.max_reading_age_s <= 0:
            raise OptionError(f"max_reading_age_s is {self.max_reading_age_s}; it must be positive")
        for pose_name in ("start_pose", "safe_pose"):
            for name, target in getattr(self, pose_name).items():
                if name not in self.axes:
                    raise OptionError(f"{pose_name} names {name!r}, which has no limits.{near_matches(name, self.axes)}")
                if not self.axes[name].low <= target <= self.axes[name].high:
                    raise OptionError(f"{pose_name}.{name} is {target}, outside its limits; choose a pose within them")

    @classmethod
    def load(cls, path: Path) -> Limits:
        """Read the yaml; raises `OptionError` for what does not belong there."""
        try:
            plain = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise OptionError(f"the limits {path} cannot be read: {error}") from error
        return cls.from_plain(plain, where=str(path))

    @classmethod
    def from_plain(cls, plain: Any, *, where: str = "limits") -> Limits:
        """Build from plain data; raises `OptionError` for unknown keys, wrong types and limits that are none."""
        if not isinstance(plain, Mapping) or not isinstance(plain.get("axes"), Mapping):
            raise OptionError(f"{where} has no `axes`; give low, high, velocity and acceleration of every action")
        axes = {
            name: options_from(AxisLimits, axis if isinstance(axis, Mapping) else {}, where=f"{where}.axes.{name}")
            for name, axis in plain["axes"].items()
        }
        poses = {name: _pose(plain.get(name) or {}, where=f"{where}.{name}") for name in ("start_pose", "safe_pose")}
        return options_from(cls, {**plain, **poses, "axes": axes}, where=where)

    @property
    def id(self) -> str:
        """Content hash: what recordings and the handshake call these limits."""
        return content_hash(plain_from(self))


def _pose(plain: Mapping[str, Any], *, where: str) -> dict[str, float]:
    try:
        return {name: float(target) for name, target in plain.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise OptionError(f"{where} is {plain!r}; give a number for each axis by name") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class TickLimits:
    """The limits of all axes, per control tick, each float64 [A]."""

    low: np.ndarray
    high: np.ndarray
    step: np.ndarray
    """Largest change of the target in a tick."""
    change: np.ndarray
    """Largest change of that change from a tick to the next."""

    @classmethod
    def of(cls, limits: Limits, interface: Interface) -> TickLimits:
        """Return the limits in the order of the interface's actions; raises `OptionError` where they do not fit."""
        if not interface.action_space.startswith("absolute"):
            raise OptionError(
                f"the robot's action space is {interface.action_space!r}; limits apply to absolute targets: "
                "let the driver take absolute_joint or absolute_ee"
            )
        if set(limits.axes) != set(interface.action_names):
            raise OptionError(
                f"the limits are of {sorted(limits.axes)}, the robot's actions are {sorted(interface.action_names)}; "
                "give the limits of exactly these"
            )
        axes, dt = [limits.axes[name] for name in interface.action_names], 1.0 / interface.control_hz
        return cls(
            low=np.array([axis.low for axis in axes]),
            high=np.array([axis.high for axis in axes]),
            step=np.array([axis.velocity * dt for axis in axes]),
            change=np.array([axis.acceleration * dt * dt for axis in axes]),
        )

    def scaled(self, scale: float) -> TickLimits:
        """Return the limits with velocities and accelerations scaled."""
        return TickLimits(low=self.low, high=self.high, step=self.step * scale, change=self.change * scale)


def pose_of(pose: Mapping[str, float], names: Sequence[str], *, otherwise: np.ndarray) -> np.ndarray:
    """Return a pose in the order of `names`, float64 [A]; axes that it leaves out are those of `otherwise`."""
    return np.array([pose.get(name, rest) for name, rest in zip(names, otherwise, strict=True)], np.float64)
