"""A device without a human: takes a robot over at set moments and plays recorded motions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from opentau.errors import OptionError
from opentau.types import EpisodePlan, Interface, Outcome, derive_seed

# Shapes: T control ticks of a motion, A action dimensions.


class RecordedTeleop:
    """Plays the part of a leader arm: holds the switch from a set tick on until its motion has been played.

    While the switch is held and the robot has not come to the motion's first pose, the device waits there. Which of several
    motions is played comes from the episode's seed. Robots whose actions are poses only.
    """

    def __init__(
        self,
        *,
        interface: Interface,
        motions: Sequence[str],
        at_ticks: Sequence[int],
        patience_ticks: int = 300,
    ) -> None:
        """`motions`: files of float32 [T, A] in the interface's units, written by `numpy.save`.

        `at_ticks`: control ticks of an episode at which the switch is pressed, unless it is held then.
        `patience_ticks`: how long it is held at most for a robot that does not come to the device.
        """
        if not motions or not at_ticks or min(at_ticks) < 0 or patience_ticks < 1:
            raise OptionError(
                f"motions is {list(motions)}, at_ticks {list(at_ticks)} and patience_ticks {patience_ticks}; name at least one "
                "motion, and ticks of 0 or more at which it is played"
            )
        self._motions = [_motion(Path(file), interface=interface) for file in motions]
        self._at_ticks, self._patience_ticks = frozenset(at_ticks), patience_ticks
        self._seed, self._tick = 0, -1
        self._motion: np.ndarray | None = None
        self._num_played = self._num_waited = 0

    def start(self, plan: EpisodePlan) -> None:
        self._seed, self._tick, self._motion = plan.seed, -1, None

    def connect(self) -> None:
        """There is nothing to open."""

    def wants_control(self) -> bool:
        """Return whether the switch is held in this control tick; asked once in each."""
        self._tick += 1
        if self._motion is None and self._tick in self._at_ticks:
            choice = derive_seed(self._seed, "motion", self._tick) % len(self._motions)
            self._motion, self._num_played, self._num_waited = self._motions[choice], 0, 0
        elif self._motion is not None:
            self._num_waited += self._num_played == 0
            if self._num_played >= len(self._motion) or self._num_waited > self._patience_ticks:
                self._motion = None
        return self._motion is not None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the motion's next pose, float32 [A]."""
        del state
        assert self._motion is not None, "only a held device acts"
        pose = self._motion[self._num_played]
        self._num_played += 1
        return pose.copy()

    def pose(self) -> np.ndarray | None:
        """Return where the motion is, float32 [A]; None while nothing is played."""
        if self._motion is None:
            return None
        return self._motion[min(self._num_played, len(self._motion) - 1)].copy()

    def verdict(self) -> Outcome | None:
        return None

    def close(self) -> None:
        """There is nothing to let go of."""


def _motion(file: Path, *, interface: Interface) -> np.ndarray:
    """Read a motion, float32 [T, A]; raises `OptionError` for anything else."""
    if interface.state_names != interface.action_names:
        raise OptionError(
            f"{file} cannot be played: the robot's state {list(interface.state_names)} is no pose in the terms of its actions "
            f"{list(interface.action_names)}; use a device that is moved by hand"
        )
    try:
        motion = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise OptionError(f"the motion {file} cannot be read: {error}; write it with numpy.save") from error
    num_dims = len(interface.action_names)
    if motion.ndim != 2 or motion.shape[1] != num_dims or not len(motion) or not np.isfinite(motion).all():
        raise OptionError(
            f"{file} holds {motion.dtype} {motion.shape}; a motion of this robot is finite numbers [T, {num_dims}]"
        )
    return motion.astype(np.float32)
