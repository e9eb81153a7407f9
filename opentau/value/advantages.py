"""Advantages n control ticks ahead (π*0.6, arXiv:2511.14759, appendix F)."""

from __future__ import annotations

import numpy as np

from opentau.value.options import TAKEOVER_FAIL
from opentau.value.returns import episode_returns, step_cost, takeovers, terminal_value

# Shapes: T control steps of an episode.


def episode_advantages(
    values: np.ndarray, *, source: np.ndarray, is_success: bool, max_steps: int, lookahead: int | None
) -> np.ndarray:
    """Return A_t = V(o_{t+n}) - V(o_t) - n step costs, float32 [T], from values float32 [T] and `Source` int8 [T].

    A window that reaches past the end takes the terminal value, 0 or -1, and still pays all n steps: were the steps after
    the end free, the last frames of a timeout would look better than the stuck ones before them. A window that meets a
    takeover ends there with V(o_takeover) and pays the steps up to it: what the expert does next is not the policy's merit.
    Without `lookahead` A_t = R_t - V(o_t), where a stretch that ends in a takeover has failed: of higher variance, but it
    needs one value only (the paper's rule of pre-training).
    """
    if lookahead is None:
        returns = episode_returns(source, is_success=is_success, max_steps=max_steps, takeover=TAKEOVER_FAIL)
        return returns - values
    num_steps = len(values)
    ticks = np.arange(num_steps)
    ends = ticks + lookahead
    for tick in takeovers(source)[::-1]:
        meets = (ticks < tick) & (tick <= ends)
        ends = np.where(meets, tick, ends)
    ahead = np.where(ends < num_steps, values[np.minimum(ends, num_steps - 1)], terminal_value(is_success=is_success))
    return (ahead - values - (ends - ticks) * step_cost(max_steps)).astype(np.float32)
