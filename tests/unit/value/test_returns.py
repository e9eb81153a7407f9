"""Returns and advantages, and the traps that a careless definition falls into."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.errors import DataError
from opentau.types import Source
from opentau.value.advantages import episode_advantages
from opentau.value.returns import episode_returns, is_taken_over, takeovers

AUTONOMOUS, INTERVENTION = Source.AUTONOMOUS, Source.INTERVENTION
COST = 1 / 200  # of a step, with 100 steps at most


def source_of(length: int, *interventions: tuple[int, int]) -> np.ndarray:
    source = np.full(length, AUTONOMOUS, np.int8)
    for start, stop in interventions:
        source[start:stop] = INTERVENTION
    return source


def returns_of(source: np.ndarray, *, is_success: bool, takeover: str = "fail") -> np.ndarray:
    return episode_returns(source, is_success=is_success, max_steps=100, takeover=takeover)


def advantages_of(
    values: np.ndarray, source: np.ndarray, *, is_success: bool, lookahead: int | None = 10, takeover: str = "fail"
) -> np.ndarray:
    return episode_advantages(
        np.asarray(values, np.float32),
        source=source,
        is_success=is_success,
        max_steps=100,
        lookahead=lookahead,
        takeover=takeover,
    )


def test_a_success_counts_the_steps_left_and_a_failure_is_minus_one_throughout() -> None:
    success = returns_of(source_of(40), is_success=True)
    assert success[0] == pytest.approx(-40 * COST)
    assert success[-1] == pytest.approx(-1 * COST)
    assert np.all(np.diff(success) > 0)
    assert np.all(returns_of(source_of(100), is_success=False) == -1)


def test_the_slowest_success_lies_above_every_failure() -> None:
    assert returns_of(source_of(100), is_success=True).min() == pytest.approx(-0.5)


def test_an_episode_longer_than_its_task_allows_is_refused() -> None:
    with pytest.raises(DataError, match="101 control steps, its task ends after 100"):
        returns_of(source_of(101), is_success=True)


def test_a_stretch_that_ends_in_a_takeover_has_failed_and_the_rest_keeps_the_outcome() -> None:
    source = source_of(60, (20, 30), (45, 50))
    assert list(takeovers(source)) == [20, 45]
    assert np.array_equal(np.flatnonzero(is_taken_over(source)), [*range(20), *range(30, 45)])
    returns = returns_of(source, is_success=True)
    actual = returns_of(source, is_success=True, takeover="actual")
    assert np.all(returns[:20] == -1)
    assert np.all(returns[30:45] == -1)
    assert np.array_equal(np.delete(returns, [*range(20), *range(30, 45)]), np.delete(actual, [*range(20), *range(30, 45)]))
    assert actual.min() == pytest.approx(-60 * COST)


def test_an_intervention_from_the_first_tick_takes_over_from_nobody() -> None:
    source = source_of(20, (0, 5))
    assert len(takeovers(source)) == 0
    assert np.all(returns_of(source, is_success=True) > -0.5)


def test_a_perfect_critic_of_a_steady_success_gives_no_advantage_to_any_of_its_frames() -> None:
    source = source_of(40)
    advantages = advantages_of(returns_of(source, is_success=True), source, is_success=True)
    assert advantages == pytest.approx(np.zeros(40), abs=1e-6)


def test_the_last_frames_of_a_timeout_do_not_get_the_best_advantages() -> None:
    rng = np.random.default_rng(0)
    source = source_of(100)
    stuck = np.full(100, -0.8) + rng.normal(scale=0.01, size=100)
    advantages = advantages_of(stuck, source, is_success=False)
    assert advantages[-10:].max() < np.quantile(advantages[:90], 0.05)
    certain = advantages_of(np.full(100, -1.0), source, is_success=False)
    assert certain == pytest.approx(np.full(100, -10 * COST))


def test_the_trap_itself_rising_returns_and_free_steps_reward_the_last_stuck_frames() -> None:
    """What reference implementations do: failures count down to the end and windows stop paying there."""
    rising = -1 + 0.5 * np.arange(100) / 100
    constant = np.full(100, rising.mean())  # a critic without a clock can only learn the mean
    ends = np.minimum(np.arange(100) + 10, 100)
    ahead = np.where(ends < 100, constant[np.minimum(ends, 99)], -0.5)
    trapped = ahead - constant - (ends - np.arange(100)) * COST
    assert trapped[-10:].min() > trapped[:90].max()


def test_the_step_into_success_is_worth_what_the_critic_doubted() -> None:
    source = source_of(40)
    values = np.full(40, -0.6)
    advantages = advantages_of(values, source, is_success=True)
    assert advantages[-1] == pytest.approx(0.6 - COST)
    assert advantages[5] == pytest.approx(-10 * COST)


def test_a_window_that_meets_a_takeover_has_reached_a_failure() -> None:
    source = source_of(40, (20, 30))
    values = np.full(40, -1.0)
    values[20:] = -0.05  # the expert makes everything good
    advantages = advantages_of(values, source, is_success=True)
    assert advantages[:20] == pytest.approx(np.full(20, -10 * COST))  # all stuck frames alike


def test_a_window_that_meets_a_takeover_ends_there_where_takeovers_are_no_failures() -> None:
    source = source_of(40, (20, 30))
    values = np.linspace(-0.9, -0.1, 40)
    values[20:] = -0.05  # the expert makes everything good
    advantages = advantages_of(values, source, is_success=True, takeover="actual")
    assert advantages[9] == pytest.approx(values[19] - values[9] - 10 * COST)
    for tick in (10, 15, 19):
        assert advantages[tick] == pytest.approx(values[20] - values[tick] - (20 - tick) * COST)


def test_the_first_of_two_takeovers_within_a_window_ends_it() -> None:
    source = source_of(40, (10, 12), (15, 20))
    values = -np.arange(40) / 100
    advantages = advantages_of(values, source, is_success=True, takeover="actual")
    assert advantages[8] == pytest.approx(values[10] - values[8] - 2 * COST)
    assert advantages[11] == pytest.approx(values[15] - values[11] - 4 * COST)
    assert advantages[25] == pytest.approx(values[35] - values[25] - 10 * COST)


def test_what_the_expert_does_after_a_takeover_does_not_reach_the_frames_before() -> None:
    source = source_of(40, (20, 30))
    calm, rescued = np.full(40, -0.7), np.full(40, -0.7)
    rescued[21:] = -0.1
    for takeover in ("fail", "actual"):
        found = [advantages_of(values, source, is_success=True, takeover=takeover)[:20] for values in (calm, rescued)]
        assert np.array_equal(*found)


def test_without_lookahead_the_advantage_is_return_minus_value_and_no_failed_frame_beats_a_value_above_minus_one() -> None:
    values = np.linspace(-0.9, -0.2, 40, dtype=np.float32)
    source = np.full(40, Source.AUTONOMOUS, np.int8)
    success = advantages_of(values, source, is_success=True, lookahead=None)
    np.testing.assert_allclose(success, -(40 - np.arange(40)) / 200 - values, atol=1e-6)
    failure = advantages_of(values, source, is_success=False, lookahead=None)
    np.testing.assert_allclose(failure, -1 - values, atol=1e-6)
    assert failure.max() < 0
