"""Interventions as a state machine: autonomous → paused → align → human → resume; pure, one step per control tick."""

from __future__ import annotations

from dataclasses import dataclass

from opentau.errors import OptionError
from opentau.types import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverOptions:
    """How a human takes a robot over, and how it gets it back."""

    align_tolerance: float = 0.03
    """Largest distance between the pose of the human's device and that of the robot, as a part of each axis's range, at which
    the human moves the robot. Devices without a pose (keyboard, gamepad) need none."""
    moves_robot: bool = False
    """Whether the robot comes to the device to align, at a part of its speed; else the human brings the device to the robot."""
    align_speed: float = 0.25
    """That part of the velocity limits."""
    release_ticks: int = 5
    """Control ticks without the dead-man switch after which the policy gets the robot back."""
    demonstrator_holds: bool = False
    """Whether whoever demonstrates has the robot throughout, without a switch."""

    def __post_init__(self) -> None:
        if not 0 < self.align_tolerance <= 1 or not 0 < self.align_speed <= 1 or self.release_ticks < 1:
            raise OptionError(
                f"takeover.align_tolerance is {self.align_tolerance}, align_speed {self.align_speed} and release_ticks "
                f"{self.release_ticks}; the first two are above 0 and at most 1, the last at least 1"
            )


class Takeover:
    """Who has the robot in hand.

    The dead-man switch pauses the policy at once. The robot comes to rest, then waits until device and robot agree, then
    follows the human. Letting go pauses it again, from wherever that was; after `release_ticks` the policy plans afresh, and
    acts once it has. A demonstration has no policy to go back to, and begins and ends in the pause.
    """

    def __init__(self, options: TakeoverOptions, *, has_policy: bool) -> None:
        self._options = options
        self._has_policy = has_policy
        self._num_released = 0
        self.phase = Phase.RESUME if has_policy else Phase.PAUSED

    def step(self, *, is_held: bool, is_still: bool, gap: float | None, has_plan: bool) -> Phase:
        """Return who acts in this tick.

        `is_held`: the dead-man switch. `is_still`: the robot is at rest. `gap`: distance between device and robot as a part of
        the range, None for a device without a pose. `has_plan`: the policy has an action for this tick.
        """
        self._num_released = 0 if is_held else self._num_released + 1
        if is_held:
            self.phase = self._held(is_still=is_still, gap=gap)
        elif self.phase in (Phase.ALIGN, Phase.HUMAN):
            self.phase = Phase.PAUSED
        elif self.phase is Phase.PAUSED and self._has_policy and self._num_released >= self._options.release_ticks:
            self.phase = Phase.RESUME
        elif self.phase is Phase.RESUME and has_plan:
            self.phase = Phase.AUTONOMOUS
        return self.phase

    def _held(self, *, is_still: bool, gap: float | None) -> Phase:
        is_aligned = gap is None or gap <= self._options.align_tolerance
        if self.phase in (Phase.AUTONOMOUS, Phase.RESUME) or (self.phase is Phase.PAUSED and not is_still):
            return Phase.PAUSED
        if self.phase is Phase.HUMAN or is_aligned:
            return Phase.HUMAN
        return Phase.ALIGN
