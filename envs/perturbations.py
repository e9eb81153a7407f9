"""Perturbations of what a demonstration executes, so that it visits states from which it must recover."""

from __future__ import annotations

import numpy as np

# Shapes: A action dimensions.


class Bursts:
    """Stretches of a constant random offset; everything is a function of the seed."""

    def __init__(self, scale: np.ndarray, *, episode_share: float, probability: float, num_ticks: tuple[int, int]) -> None:
        if not 0.0 <= episode_share <= 1.0 or not 0.0 <= probability <= 1.0:
            raise ValueError(f"episode_share is {episode_share}, probability {probability}; both lie in [0, 1]")
        if not 0 < num_ticks[0] < num_ticks[1]:
            raise ValueError(f"num_ticks is {tuple(num_ticks)}; give a shortest length of at least 1 and a larger end")
        self._episode_share, self._probability = episode_share, probability
        self._shortest, self._end = num_ticks
        self._scale = scale
        self.start(seed=0)

    def start(self, *, seed: int) -> None:
        """Begin an episode."""
        self._rng = np.random.default_rng(seed)
        self._is_disturbed = self._rng.random() < self._episode_share
        self._left = 0
        self._offset = np.zeros(len(self._scale))

    def next(self) -> np.ndarray | None:
        """Return the offset of the next tick, None between two bursts."""
        if self._left == 0 and self._is_disturbed and self._rng.random() < self._probability:
            self._left = int(self._rng.integers(self._shortest, self._end))
            self._offset = np.clip(self._rng.standard_normal(len(self._scale)), -2.0, 2.0) * self._scale
        if self._left == 0:
            return None
        self._left -= 1
        return self._offset


class ActionBursts:
    """Bursts of a constant offset on the arm's action, bounded in size and length; the gripper is left alone.

    The expert's own action stays the training target (DART, Laskey et al. 2017, arXiv:1703.09327).
    """

    def __init__(
        self,
        *,
        episode_share: float = 0.6,
        probability: float = 0.04,
        num_ticks: tuple[int, int] = (3, 8),
        translation: float = 0.5,
        rotation: float | None = 0.05,
    ) -> None:
        """`episode_share` of the episodes are disturbed; in these, every quiet tick starts a burst with `probability`.

        `num_ticks` is its shortest length and the one it never reaches; `translation` and `rotation` are standard deviations
        in units of a full action, cut at two of them; `rotation` is None for actions that do not turn the hand.
        """
        scale = np.array([translation] * 3 + ([] if rotation is None else [rotation] * 3))
        self._bursts = Bursts(scale, episode_share=episode_share, probability=probability, num_ticks=num_ticks)

    def start(self, *, seed: int) -> None:
        """Begin an episode."""
        self._bursts.start(seed=seed)

    def apply(self, action: np.ndarray) -> np.ndarray:
        """Return what is executed instead, float32 [A] within [-1, 1]."""
        offset = self._bursts.next()
        executed = np.array(action, np.float32)
        if offset is not None:
            executed[: len(offset)] += offset
        return np.clip(executed, -1.0, 1.0).astype(np.float32)


class JointBursts:
    """The same on joint targets: every joint but the last, the gripper, is held off its target for a moment."""

    def __init__(
        self,
        *,
        num_joints: int,
        degrees: float = 4.0,
        episode_share: float = 0.6,
        probability: float = 0.04,
        num_ticks: tuple[int, int] = (4, 12),
    ) -> None:
        """`degrees`: standard deviation of the offset, cut at two; the rest as in `ActionBursts`."""
        scale = np.array([degrees] * (num_joints - 1) + [0.0])
        self._bursts = Bursts(scale, episode_share=episode_share, probability=probability, num_ticks=num_ticks)

    def start(self, *, seed: int) -> None:
        """Begin an episode."""
        self._bursts.start(seed=seed)

    def apply(self, action: np.ndarray) -> np.ndarray:
        """Return what is executed instead, float32 [A]; what limits it is the environment's."""
        offset = self._bursts.next()
        return np.array(action if offset is None else action + offset, np.float32)
