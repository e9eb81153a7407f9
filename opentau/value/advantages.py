"""Advantages n control ticks ahead (π*0.6, arXiv:2511.14759, appendix F)."""

from __future__ import annotations

import numpy as np

from opentau.value.options import TAKEOVER_FAIL
from opentau.value.returns import FAILURE_VALUE, episode_returns, step_cost, takeovers, terminal_value

# Shapes: T control steps of an episode.


def episode_advantages(
    values: np.ndarray, *, source: np.ndarray, is_success: bool, max_steps: int, lookahead: int | None, takeover: str
) -> np.ndarray:
    """Return A_t = V(o_{t+n}) - V(o_t) - step costs, float32 [T], from values float32 [T] and `Source` int8 [T].

    A window that reaches a success pays the steps up to it: all of a well judged success is worth 0. One that reaches a
    failure takes -1 and pays all n steps, as windows within the failure do: were the steps after the end free, the last
    frames of a timeout would look better than the stuck ones before them. With `takeover='fail'` a window that meets a
    takeover has reached a failure, with 'actual' it ends there with V(o_takeover) and pays the steps up to it; what the
    expert does next is never the policy's merit. Without `lookahead` A_t = R_t - V(o_t): of higher variance, but it needs
    one value only (the paper's rule of pre-training).
    """
    if lookahead is None:
        returns = episode_returns(source, is_success=is_success, max_steps=max_steps, takeover=takeover)
        return returns - values
    num_steps = len(values)
    ticks = np.arange(num_steps)
    ends = ticks + lookahead
    is_taken_over = np.zeros(num_steps, bool)
    for tick in takeovers(source)[::-1]:
        meets = (ticks < tick) & (tick <= ends)
        ends = np.where(meets, tick, ends)
        is_taken_over |= meets
    ahead = np.where(ends < num_steps, values[np.minimum(ends, num_steps - 1)], terminal_value(is_success=is_success))
    paid = np.minimum(ends, num_steps) - ticks if is_success else ends - ticks
    if takeover == TAKEOVER_FAIL:
        ahead = np.where(is_taken_over, FAILURE_VALUE, ahead)
        paid = np.where(is_taken_over, lookahead, paid)
    return (ahead - values - paid * step_cost(max_steps)).astype(np.float32)
