"""What stands between every command and a robot: box, velocity and acceleration per tick, and who may move it at all.

`limited` is a pure function; `Safety` adds what has to be remembered: where the robot was sent last, how long nobody has
commanded it (the ladder of holds) and the latched stop.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from robot_bridge.workcell.limits import Limits, TickLimits, pose_of
from robot_bridge.workcell.stop import StopLatch

# Shapes: A action dimensions.

TOLERANCE = 1e-6
"""Relative to an axis's range: what is nearer to the request than this was not changed, and a smaller step is no motion."""


class Clip(enum.IntFlag):
    """Why an axis did not do what was asked of it."""

    NOT_FINITE = 1
    BOX = 2
    VELOCITY = 4
    ACCELERATION = 8


class Hold(enum.IntEnum):
    """The ladder: how a robot holds when it has no fresh action."""

    NONE = 0
    """It has one, or is meant to stand still."""
    DECELERATE = 1
    """It comes to rest within its limits."""
    DAMPED = 2
    """It stands where it is instead of pushing towards its last target."""
    SAFE_POSE = 3
    STOPPED = 4
    """The latched stop."""

    @property
    def word(self) -> str:
        """Return what people read, '' for none."""
        return self.name.lower().replace("_", " ") if self else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Where a robot was sent last, and how fast."""

    position: np.ndarray
    """Executed target, float32 [A]."""
    step: np.ndarray
    """How far it is from the target before, float64 [A]."""
    request: np.ndarray
    """What was asked for, within the box, float64 [A]."""

    @classmethod
    def at_rest(cls, position: np.ndarray) -> Motion:
        position = np.asarray(position, np.float32)
        return cls(position=position, step=np.zeros(len(position)), request=position.astype(np.float64))


def limited(limits: TickLimits, motion: Motion, requested: np.ndarray, *, speed: float = 1.0) -> tuple[Motion, np.ndarray]:
    """Return the motion after the next tick and the `Clip` bits of each axis, uint8 [A].

    A request [A] that the limits allow is executed as it is. Otherwise the axis follows the request's own motion and closes
    the gap as fast as it can still brake; and it never moves faster than it can stop within its box. `speed` scales the
    velocity limits. Axes whose request is not finite brake.
    """
    is_finite = np.isfinite(requested)
    position = motion.position.astype(np.float64)
    request = np.clip(np.where(is_finite, requested, position), limits.low, limits.high)
    gap = motion.request - position
    wanted = request - motion.request + np.sign(gap) * _stoppable_step(np.abs(gap), limits.change)
    wanted = np.where(is_finite, wanted, 0.0)
    step = _allowed_step(limits, motion, position, wanted, speed=speed)
    # An axis that begins outside its box is allowed to stay there, and to come back.
    executed = np.clip(position + step, np.minimum(limits.low, position), np.maximum(limits.high, position)).astype(np.float32)
    after = Motion(position=executed, step=step, request=np.where(is_finite, request, executed))
    return after, _clips(limits, motion, requested, executed, speed=speed)


def braked(limits: TickLimits, motion: Motion) -> Motion:
    """Return the motion after a tick of coming to rest."""
    after, _ = limited(limits, motion, np.full(len(motion.position), np.nan))
    return after


def _stoppable_step(distance: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the largest step from which steps that shrink by `change` end within `distance`, [A].

    Steps u, u - c, …, u - mc sum up to (m + 1) u - c m (m + 1) / 2; m is the number of them that fit.
    """
    distance = np.maximum(distance, 0.0)
    count = np.floor((np.sqrt(1.0 + 8.0 * distance / change) - 1.0) / 2.0)
    return distance / (count + 1.0) + change * count / 2.0


def _allowed_step(limits: TickLimits, motion: Motion, position: np.ndarray, wanted: np.ndarray, *, speed: float) -> np.ndarray:
    slowest, fastest = motion.step - limits.change, motion.step + limits.change
    # Whoever is too fast already, because limits became tighter, brakes down to them.
    top = limits.step * speed
    slowest = np.maximum(slowest, np.minimum(-top, fastest))
    fastest = np.minimum(fastest, np.maximum(top, slowest))
    fastest = np.minimum(fastest, _stoppable_step(limits.high - position, limits.change))
    slowest = np.maximum(slowest, -_stoppable_step(position - limits.low, limits.change))
    return np.minimum(np.maximum(wanted, slowest), fastest)


def _clips(limits: TickLimits, motion: Motion, requested: np.ndarray, executed: np.ndarray, *, speed: float) -> np.ndarray:
    is_finite = np.isfinite(requested)
    asked = np.where(is_finite, requested, 0.0)
    is_changed = is_finite & (np.abs(asked - executed) > TOLERANCE * (limits.high - limits.low))
    step = np.clip(asked, limits.low, limits.high) - motion.position
    is_boxed = (asked < limits.low) | (asked > limits.high)
    is_fast = np.abs(step) > limits.step * speed
    is_sudden = (np.abs(step - motion.step) > limits.change) | ~(is_boxed | is_fast)
    bits = is_boxed * Clip.BOX + is_fast * Clip.VELOCITY + is_sudden * Clip.ACCELERATION
    return (np.where(is_changed, bits, 0) + ~is_finite * Clip.NOT_FINITE).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What a robot is sent in one tick."""

    action: np.ndarray
    """float32 [A]."""
    clips: np.ndarray
    """`Clip` bits, uint8 [A]."""
    level: Hold


class Safety:
    """Everything that a robot is sent goes through here, once per control tick."""

    def __init__(self, limits: Limits, tick_limits: TickLimits, *, names: Sequence[str], latch: StopLatch) -> None:
        self._limits = limits
        self._full = self._within = tick_limits
        self._names = tuple(names)
        self._latch = latch
        self._is_slowing = False
        self._motion = Motion.at_rest(np.zeros(len(self._names)))
        self._fresh_at_s: float | None = None
        self._damped_at: np.ndarray | None = None

    def start(self, position: np.ndarray) -> None:
        """Begin from where the robot is, at rest, with its full limits; position [A]."""
        self._motion = Motion.at_rest(position)
        self._within, self._is_slowing = self._full, False
        self.rest_timer()

    def slow_down(self) -> None:
        """From the next standstill on, which comes first, move at the first run's part of the limits."""
        self._is_slowing = True

    def restart_timer(self, *, now_s: float) -> None:
        """Begin the ladder anew from `now_s`."""
        self._fresh_at_s, self._damped_at = now_s, None

    def rest_timer(self) -> None:
        """Begin the ladder anew: that nobody commands the robot now is as it should be."""
        self._fresh_at_s, self._damped_at = None, None

    @property
    def is_still(self) -> bool:
        """Return whether the last tick moved no axis."""
        return bool((np.abs(self._motion.step) <= TOLERANCE * (self._full.high - self._full.low)).all())

    @property
    def position(self) -> np.ndarray:
        """Return where the robot was sent last, float32 [A]."""
        return self._motion.position

    def silence_s(self, now_s: float) -> float:
        """Return how long the robot has been without a fresh action, seconds."""
        return 0.0 if self._fresh_at_s is None else now_s - self._fresh_at_s

    def act(self, requested: np.ndarray, *, now_s: float, measured: np.ndarray, speed: float = 1.0) -> Executed:
        """Send the robot where it is asked to go, [A], as far as that is allowed; what is not finite is no action at all."""
        requested = np.asarray(requested, np.float64)
        if self._latch.is_set:
            return self._brake(Hold.STOPPED)
        if not np.isfinite(requested).all():
            held = self.hold(now_s=now_s, measured=measured)
            clips = np.where(np.isfinite(requested), 0, int(Clip.NOT_FINITE)).astype(np.uint8)
            return replace(held, clips=held.clips | clips)
        if self._is_slowing:
            if not self.is_still:
                return self._brake(Hold.DECELERATE)
            self._within, self._is_slowing = self._full.scaled(self._limits.first_run_scale), False
        self._fresh_at_s, self._damped_at = now_s, None
        self._motion, clips = limited(self._within, self._motion, requested, speed=speed)
        return Executed(action=self._motion.position, clips=clips, level=Hold.NONE)

    def hold(self, *, now_s: float, measured: np.ndarray) -> Executed:
        """Do what the ladder says while there is no fresh action; `measured` [A] is where the robot is."""
        if self._latch.is_set:
            return self._brake(Hold.STOPPED)
        silence_s = self.silence_s(now_s)
        if silence_s < self._limits.damped_after_s:
            return self._brake(Hold.DECELERATE)
        if self._damped_at is None:
            self._damped_at = np.asarray(measured, np.float64).copy()
        if silence_s < self._limits.safe_pose_after_s or not self._limits.safe_pose:
            return self._go(self._damped_at, Hold.DAMPED)
        return self._go(pose_of(self._limits.safe_pose, self._names, otherwise=self._damped_at), Hold.SAFE_POSE)

    def rest(self) -> Executed:
        """Come to rest and stay, because that is what somebody wants."""
        self.rest_timer()
        return self._brake(Hold.STOPPED if self._latch.is_set else Hold.NONE)

    def _brake(self, level: Hold) -> Executed:
        self._motion = braked(self._within, self._motion)
        return Executed(action=self._motion.position, clips=np.zeros(len(self._names), np.uint8), level=level)

    def _go(self, pose: np.ndarray, level: Hold) -> Executed:
        self._motion, _ = limited(self._within, self._motion, pose, speed=self._limits.pose_speed)
        return Executed(action=self._motion.position, clips=np.zeros(len(self._names), np.uint8), level=level)
