"""When an expert takes over from a policy during collection, and when it hands back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from opentau.errors import OptionError
from opentau.types import EpisodePlan, derive_seed

CHANCE_WINDOW = (0.1, 0.6)
"""Part of an episode's longest duration in which a takeover by chance may fall."""


class EpisodeSupervisor:
    """Take over when the robot stands still, runs late or loses value, or by chance; hand back after a while.

    Everything random comes from the plan's seed. Ticks are control steps.
    """

    def __init__(
        self,
        *,
        max_steps: int,
        no_progress_ticks: int | None = 40,
        movement_tolerance: float = 0.01,
        num_progress_dims: int = 3,
        overtime_fraction: float | None = 0.75,
        value_drop: float | None = 0.25,
        random_takeover_probability: float = 0.25,
        max_takeovers: int = 2,
        hand_back_after_ticks: Sequence[int] = (30, 60),
        keep_probability: float = 0.5,
    ) -> None:
        """Set what counts as trouble; None switches a reason off.

        `no_progress_ticks`: so long within `movement_tolerance` (units of the state) along each of the first
        `num_progress_dims` of the state, which both simulators give to the hand's position. `overtime_fraction`: of
        `max_steps`. `value_drop`: below the best value since the policy was in control. `hand_back_after_ticks`: shortest
        and longest stretch. `keep_probability`: of keeping control to the end of the episode.
        """
        for name, probability in (("random_takeover", random_takeover_probability), ("keep", keep_probability)):
            if not 0.0 <= probability <= 1.0:
                raise OptionError(f"{name}_probability is {probability}; a probability lies between 0 and 1")
        shortest, longest = hand_back_after_ticks
        if not 1 <= shortest <= longest:
            raise OptionError(f"hand_back_after_ticks is ({shortest}, {longest}); it takes 1 <= shortest <= longest")
        self._max_steps = max_steps
        self._no_progress_ticks = no_progress_ticks
        self._movement_tolerance = movement_tolerance
        self._num_progress_dims = num_progress_dims
        self._overtime_tick = None if overtime_fraction is None else overtime_fraction * max_steps
        self._value_drop = value_drop
        self._random_takeover_probability = random_takeover_probability
        self._max_takeovers = max_takeovers
        self._stretch_range = shortest, longest
        self._keep_probability = keep_probability
        self._positions: deque[np.ndarray] = deque(maxlen=no_progress_ticks)

    def start(self, plan: EpisodePlan) -> None:
        """Begin an episode; draw whether and when chance takes over."""
        self._rng = np.random.default_rng(derive_seed(plan.seed, "supervisor"))
        self._num_takeovers = 0
        self._stretch_ends: int | None = None
        self._may_overtime_from = 0
        self._chance_tick: int | None = None
        if self._rng.random() < self._random_takeover_probability:
            self._chance_tick = int(self._rng.uniform(*CHANCE_WINDOW) * self._max_steps)
        self._watch_afresh()

    def wants_control(self, *, tick: int, state: np.ndarray, value: float | None, is_intervening: bool) -> bool:
        """Return whether the expert should act in this control step."""
        if is_intervening:
            return self._keeps(tick)
        self._positions.append(np.array(state[: self._num_progress_dims]))
        is_losing = self._is_losing_value(value)
        if self._num_takeovers >= self._max_takeovers:
            return False
        if not (is_losing or self._is_chance(tick) or self._is_stuck() or self._is_late(tick)):
            return False
        self._num_takeovers += 1
        if self._rng.random() >= self._keep_probability:
            shortest, longest = self._stretch_range
            self._stretch_ends = tick + int(self._rng.integers(shortest, longest + 1))
        return True

    def _keeps(self, tick: int) -> bool:
        if self._stretch_ends is None or tick < self._stretch_ends:
            return True
        self._stretch_ends = None
        self._may_overtime_from = tick + self._stretch_range[1]
        self._watch_afresh()
        return False

    def _watch_afresh(self) -> None:
        self._positions.clear()
        self._best_value = -np.inf

    def _is_chance(self, tick: int) -> bool:
        """Whether the drawn moment has come; one that fell into an intervention is over."""
        return tick == self._chance_tick

    def _is_stuck(self) -> bool:
        if self._no_progress_ticks is None or len(self._positions) < self._no_progress_ticks:
            return False
        return bool(np.ptp(np.stack(self._positions), axis=0).max() <= self._movement_tolerance)

    def _is_late(self, tick: int) -> bool:
        """Whether time runs out; after a stretch the policy gets as long as the longest stretch before this counts again."""
        return self._overtime_tick is not None and tick >= max(self._overtime_tick, self._may_overtime_from)

    def _is_losing_value(self, value: float | None) -> bool:
        if value is None or self._value_drop is None:
            return False
        self._best_value = max(self._best_value, value)
        return value < self._best_value - self._value_drop
