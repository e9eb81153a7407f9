"""Returns of episodes on the critic's scale: 0 is success, -1 is failure, a step to success costs 1 / (2 T_max)."""

from __future__ import annotations

import numpy as np

from opentau.errors import DataError
from opentau.types import Source
from opentau.value.options import TAKEOVER_FAIL

# Shapes: T control steps of an episode.

SUCCESS_VALUE, FAILURE_VALUE = 0.0, -1.0


def step_cost(max_steps: int) -> float:
    """Return what one control step costs: a success that takes the task's whole time starts at -0.5."""
    return 1.0 / (2 * max_steps)


def terminal_value(*, is_success: bool) -> float:
    """Return the value of having ended."""
    return SUCCESS_VALUE if is_success else FAILURE_VALUE


def takeovers(source: np.ndarray) -> np.ndarray:
    """Return the ticks at which an intervention begins after another source, int64 [K], from `Source` int8 [T]."""
    is_intervention = source == Source.INTERVENTION
    return np.flatnonzero(is_intervention[1:] & ~is_intervention[:-1]) + 1


def episode_returns(source: np.ndarray, *, is_success: bool, max_steps: int, takeover: str) -> np.ndarray:
    """Return R_t of every frame, float32 [T]: -(T - t) / (2 T_max) in a success, so at least -0.5, and -1 in a failure.

    A failure's return does not rise towards its end, else a critic without a clock would give the last frames of every
    timeout the best advantages of the data (π*0.6, equation 5, leaves C_fail and its scale open). With `takeover='fail'`
    the autonomous frames of a stretch that ends in a takeover count as failed, else the expert's rescue would teach the
    critic that failing states are good; frames of the intervention itself keep the episode's outcome.
    """
    num_steps = len(source)
    if num_steps > max_steps:
        raise DataError(
            f"an episode has {num_steps} control steps, its task ends after {max_steps}; "
            "set the task's max_steps to the longest episode"
        )
    steps_left = num_steps - np.arange(num_steps)
    returns = -steps_left * step_cost(max_steps) if is_success else np.full(num_steps, FAILURE_VALUE)
    if takeover == TAKEOVER_FAIL:
        returns[is_taken_over(source)] = FAILURE_VALUE
    return returns.astype(np.float32)


def is_taken_over(source: np.ndarray) -> np.ndarray:
    """Return which frames lie in a stretch without intervention that ends in a takeover, bool [T]."""
    taken_over = np.zeros(len(source), dtype=bool)
    for tick in takeovers(source):
        earlier = np.flatnonzero(source[:tick] == Source.INTERVENTION)
        taken_over[(earlier[-1] + 1 if len(earlier) else 0) : tick] = True
    return taken_over
